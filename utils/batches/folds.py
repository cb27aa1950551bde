"""Cross-validation: the training and validation samples of a data set, cut anew into one part of K and the rest.

A data set that can be cut has an attribute with an entry a sample (a tensor, array or list) for all that differs from
sample to sample, and in `transforms` what its splits do with them. Where `targets` are classes, all folds have them in
the same proportions; where there are `groups`, the samples of one stay together instead. What a data set computes from
its training samples when it is made, such as a mean, is that of its own training split in every fold: what must
not know the fold is for the trainer to fit, to the samples that it trains on.
"""

import sys
from collections.abc import Callable, Iterable
from copy import copy
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from utils.batch import tensors
from utils.batches.attributes import with_transforms_of
from utils.batches.classes import check_classes
from utils.batches.methods import check_length, collate_of
from utils.errors import ConfigError

SEED = 0  # of the folds: they are the same for every seed of a run
MOST_CLASSES = 0.5  # of the samples: whole numbers with more values than that are no classes


def make_datasets(build: Callable[..., Dataset[Any]], splits: Iterable[str], fold: str | None) -> dict[str, Any]:
    """The splits of a data set that `build(split=...)` makes. `fold`: "2/5" has "valid" be the second fifth of the
    samples of "train" and "valid" together, and "train" the rest; the other splits stay.

    Raises:
        ConfigError: the data set cannot be cut, or its splits number their classes differently.
    """
    is_cut = fold is not None and bool({"train", "valid"} & set(splits))
    made = {split: build(split=split) for split in dict.fromkeys((*(("train", "valid") if is_cut else ()), *splits))}
    check_classes(made, build)
    if fold is not None and is_cut:
        made["train"], made["valid"] = _cut(made["train"], made["valid"], *map(int, fold.split("/")))
    return {split: made[split] for split in splits}


def _cut(train: Any, valid: Any, number: int, count: int) -> tuple[Any, Any]:
    if isinstance(train, IterableDataset):
        raise ConfigError("dataset.fold: an iterable data set has no samples to cut into folds. Leave it out.")
    check_length(train, valid)
    pooled = _pooled(train, valid)
    total = len(train) + len(valid)
    folds = fold_numbers(total, count, pooled.get("targets"), pooled.get("groups"))
    parts = []
    for like, rows in ((train, folds != number), (valid, folds == number)):
        part = copy(train)
        for name, values in pooled.items():
            setattr(part, name, _chosen(values, rows.nonzero().flatten()))
        if like is valid:
            part = with_transforms_of(valid, part)
            part.__dict__ |= {"split": "valid"} if "split" in vars(part) else {}
        part.sample_numbers = rows.nonzero().flatten()  # where its samples are among those of both
        parts.append(part)
    _check(train, valid, parts[1])
    return parts[0], parts[1]


def _pooled(train: Any, valid: Any) -> dict[str, Any]:
    """The attributes that have an entry for each sample, of both sets together."""
    pooled = {}
    for name, first in vars(train).items():
        second = vars(valid).get(name)
        if not _has_entries(first, len(train)):
            continue
        if type(second) is not type(first) or not _has_entries(second, len(valid)):
            raise _uncut(train, f"{name!r} has an entry for each training sample, and none for those of validation")
        pooled[name] = _joined(first, second)
    if not pooled:
        raise _uncut(train, "it has no attribute with an entry a sample")
    for name in ("targets", "groups"):
        if name not in pooled and getattr(train, name, None) is not None:
            raise _uncut(train, f"{name!r} is no tensor, array or list with an entry a sample")
    return pooled


def _joined(first: Any, second: Any) -> Any:
    if isinstance(first, list):
        return [*first, *second]
    return (
        torch.cat([first, second]) if isinstance(first, Tensor) else sys.modules["numpy"].concatenate([first, second])
    )


def _uncut(dataset: Any, reason: str) -> ConfigError:
    return ConfigError(f"dataset.fold: {type(dataset).__name__} cannot be cut: {reason}.")


def _has_entries(values: Any, count: int) -> bool:
    is_array = isinstance(values, Tensor) or type(values).__module__ == "numpy"
    return (isinstance(values, list) or (is_array and values.ndim > 0)) and len(values) == count


def _chosen(values: Any, rows: Tensor) -> Any:
    if isinstance(values, list):
        return [values[row] for row in rows.tolist()]
    return values[rows if isinstance(values, Tensor) else rows.numpy()]


def _check(train: Any, valid: Any, part: Any) -> None:
    """The first and last samples of the fold must be those of the sets that they come from."""
    as_valid = with_transforms_of(valid, train)
    collate = collate_of(train)
    for i in (0, len(part.sample_numbers) - 1):
        row = int(part.sample_numbers[i])
        expected = as_valid[row] if row < len(train) else valid[row - len(train)]
        pairs = zip(tensors(collate([part[i]])), tensors(collate([expected])), strict=True)
        same = all(torch.equal(found.nan_to_num(), tensor.nan_to_num()) for found, tensor in pairs)
        if len(part) != len(part.sample_numbers) or not same:
            raise _uncut(train, "not all that its samples are made of stands in attributes with an entry a sample")


def fold_numbers(total: int, count: int, targets: Any = None, groups: Any = None) -> Tensor:
    """The fold, 1 to `count`, of each of `total` samples. A function of its arguments; sizes differ by one at most, but
    where groups stay together.

    Raises:
        ConfigError: fewer samples, or groups, than folds.
    """
    generator = torch.Generator().manual_seed(SEED)
    if groups is not None:
        return _of_groups(groups, count, generator)
    if not 2 <= count <= total:
        raise ConfigError(f"dataset.fold: {total} samples cannot be cut into {count} folds.")
    order = torch.randperm(total, generator=generator)
    classes = _numbered(targets) if targets is not None else None
    if classes is not None and len(classes.unique()) <= max(2, MOST_CLASSES * total):
        order = order[classes[order].argsort(stable=True)]  # class after class, each shuffled
    numbers = torch.empty(total, dtype=torch.int64)
    numbers[order] = torch.arange(total) % count + 1
    return numbers


def _numbered(values: Any) -> Tensor | None:
    """A number for each different whole number or text; None where they are something else."""
    values = values.tolist() if hasattr(values, "tolist") else values
    if not all(isinstance(value, (int, str)) for value in values):
        return None
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return torch.tensor([numbers[value] for value in values])


def _of_groups(groups: Any, count: int, generator: torch.Generator) -> Tensor:
    """The largest group first, each to the fold that is smallest by then."""
    members = _numbered(groups)
    if members is None:
        raise ConfigError("dataset.fold: groups are told apart by whole numbers or texts.")
    sizes = members.bincount()
    if len(sizes) < count:
        raise ConfigError(f"dataset.fold: {len(sizes)} groups cannot be cut into {count} folds.")
    shuffled = torch.randperm(len(sizes), generator=generator)
    filled, fold_of_group = [0] * count, torch.empty(len(sizes), dtype=torch.int64)
    for group in shuffled[sizes[shuffled].argsort(descending=True, stable=True)].tolist():
        smallest = filled.index(min(filled))
        filled[smallest] += int(sizes[group])
        fold_of_group[group] = smallest + 1
    return fold_of_group[members]
