"""Optional base of a data set: samples of one split, and how samples become a batch."""

from abc import ABC, abstractmethod
from typing import Any

from torch.utils.data import Dataset, default_collate

SPLITS = ("train", "valid", "test")


class BaseDataset(Dataset[Any], ABC):
    """The samples of one split. A class that also has `__getitems__(indices)` gives whole batches: the fast path.

    `split`: "train", "valid" or "test". An empty "valid" split means that the run has no validation.
    """

    def __init__(self, split: str):
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}. Choices: {', '.join(SPLITS)}")
        self.split = split

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Any: ...

    def collate(self, samples: list[Any]) -> Any:
        """Make a batch of samples. The default stacks tensors, and goes into tuples, lists and dicts."""
        return default_collate(samples)
