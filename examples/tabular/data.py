"""Tables that scikit-learn brings along, cut into splits. Rows are raw: the model prepares them (model.py)."""

import torch
from torch import Tensor

from base.base_dataset import SPLITS, BaseDataset
from examples.packages import needed

SHARES = (0.6, 0.2, 0.2)  # of train, valid and test


class Table(BaseDataset):
    """The rows of a split: (columns,) float32, with a target each; fetched a batch at a time.

    `rows`: (N, columns) of all splits together. `targets`: (N,), float32 to be estimated, or int64 classes.
    `split_seed`: another one deals the rows out otherwise.
    """

    def __init__(self, split: str, rows: Tensor, targets: Tensor, split_seed: int = 0):
        super().__init__(split)
        own = indices_of_splits(len(rows), split_seed)[SPLITS.index(split)]
        self.rows, self.targets = rows[own], targets[own]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.rows[index], self.targets[index]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return self.rows[indices], self.targets[indices]


class Diabetes(Table):
    """442 patients: age, sex (1, 2), body mass index, blood pressure, six blood values; and how far their diabetes has
    gone on a year later, 25 to 346 (Efron et al., Least angle regression, 2004)."""

    def __init__(self, split: str, split_seed: int = 0):
        rows, targets = needed("sklearn.datasets").load_diabetes(return_X_y=True, scaled=False)
        super().__init__(split, torch.from_numpy(rows).float(), torch.from_numpy(targets).float(), split_seed)


class BreastCancer(Table):
    """569 tumours: 30 measures of the nuclei of their cells; and whether they are malignant (0) or benign (1)
    (Wolberg et al., Breast Cancer Wisconsin (Diagnostic), UCI, 1995)."""

    def __init__(self, split: str, split_seed: int = 0):
        rows, targets = needed("sklearn.datasets").load_breast_cancer(return_X_y=True)
        super().__init__(split, torch.from_numpy(rows).float(), torch.from_numpy(targets).long(), split_seed)


def indices_of_splits(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """The rows of train, valid and test: all, each in one of them."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    train, valid = (round(share * count) for share in SHARES[:2])
    return order[:train], order[train : train + valid], order[train + valid :]
