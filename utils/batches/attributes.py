"""Attributes of data sets that have a meaning: `targets`, and the transforms."""

from collections.abc import Sized
from copy import copy
from typing import Any

import torch
from torch import Tensor

TRANSFORMS = ("transform", "transforms", "target_transform")  # in which the splits of a set differ


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
