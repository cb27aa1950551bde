"""Optional base of a data set: samples of one split, and how samples become a batch."""

from abc import ABC, abstractmethod
from collections.abc import Sized
from copy import copy
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

SPLITS = ("train", "valid", "test")
TRANSFORMS = ("transform", "transforms", "target_transform")  # attributes in which the splits of a set differ


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


def targets_of(dataset: Any) -> Tensor | None:
    """The class numbers of all samples, where a data set keeps them in `targets`, as those of torchvision do."""
    targets = getattr(dataset, "targets", None)
    if not hasattr(dataset, "__len__") or targets is None or len(targets) != len(dataset):
        return None
    try:
        numbers = torch.as_tensor(targets)
    except (TypeError, ValueError, RuntimeError):
        return None
    return None if numbers.is_floating_point() or numbers.is_complex() or numbers.dim() != 1 else numbers


def with_transforms_of(other: Any, dataset: Any) -> Any:
    """The samples of a data set, read as another split of it is: say, those for training without augmentation."""
    changed = copy(dataset)
    of_other, own = getattr(other, "__dict__", {}), getattr(dataset, "__dict__", {})
    for name in TRANSFORMS:
        if name in of_other and name in own:
            setattr(changed, name, of_other[name])
    if isinstance(of_other.get("dataset"), Sized) and isinstance(own.get("dataset"), Sized):  # as in a Subset
        changed.dataset = with_transforms_of(of_other["dataset"], own["dataset"])
    return changed
