"""Which methods of a data set make its batches: those that its author wrote last, in the most derived class."""

from collections.abc import Callable
from typing import Any

from torch.utils.data import Dataset, IterableDataset, Subset, default_collate

from utils.errors import ConfigError


def gives_batches(dataset: Any) -> bool:
    """Whether `__getitems__` may be called for whole batches: it would skip a `__getitem__` or `collate` of a class
    derived from the one that defines it. torch's own containers return samples, or mix up batches (StackDataset)."""
    owner = _owner(dataset, "__getitems__")
    if owner is None or dataset.__getitems__ is None or _skipped(dataset):
        return False
    if owner is Subset:
        return gives_batches(dataset.dataset)
    return not _is_torchs(owner)


def length_of(samples: Any) -> int | None:
    """`len`, also of a data set or sampler whose `__len__` is missing or refuses to answer."""
    try:
        return len(samples)
    except (TypeError, NotImplementedError):
        return None


def check_length(*datasets: Any) -> None:
    """A data set that is no stream knows how many samples it has.

    Raises:
        ConfigError: it does not.
    """
    for dataset in datasets:
        if isinstance(dataset, IterableDataset) or length_of(dataset) is not None:
            continue
        reason = "its __len__ returns no number" if hasattr(dataset, "__len__") else "it has no __len__"
        raise ConfigError(
            f"dataset: {type(dataset).__name__} is no data set: {reason}. Write def __len__(self), which returns the "
            "number of samples, or derive it from IterableDataset if only its end tells."
        )


def collate_of(dataset: Any) -> Callable[[list[Any]], Any]:
    """Its `collate`, or that of the data set that it is a subset of.

    Raises:
        ConfigError: its author wrote `collate_fn`, torch's word, which nothing calls.
    """
    if _depth(dataset, "collate_fn") < _depth(dataset, "collate"):
        name = type(dataset).__name__
        raise ConfigError(f"dataset: {name}.collate_fn is never called. Rename it: def collate(self, samples).")
    if not hasattr(dataset, "collate") and isinstance(dataset, Subset):
        return collate_of(dataset.dataset)
    return getattr(dataset, "collate", default_collate)


def slow_path_note(dataset: Any) -> str | None:
    """Why samples are read one at a time though there is a `__getitems__`, and how to get whole batches."""
    owner, skipped = _owner(dataset, "__getitems__"), _skipped(dataset)
    if owner is Subset and not skipped:
        return slow_path_note(dataset.dataset)
    if owner is None or not skipped or _is_torchs(owner):
        return None
    name = type(dataset).__name__
    return (
        f"dataset: samples are read one at a time, because {name} overrides {skipped}, and the __getitems__ of "
        f"{owner.__name__} would skip it. For whole batches, which are faster, define __getitems__(indices) in {name}."
    )


def _skipped(dataset: Any) -> str | None:
    """The method that `__getitems__` would skip."""
    batches = _depth(dataset, "__getitems__")
    return next((name for name in ("__getitem__", "collate") if _depth(dataset, name) < batches < _NOWHERE), None)


_NOWHERE = 10**6


def _depth(dataset: Any, name: str) -> int:
    """How far up the base classes a method is defined; -1 for an attribute of the object itself."""
    if name in getattr(dataset, "__dict__", {}):
        return -1
    return next((depth for depth, kind in enumerate(type(dataset).__mro__) if name in vars(kind)), _NOWHERE)


def _owner(dataset: Any, name: str) -> type | None:
    """The class that defines a method. A `__getattr__` that passes it on to another data set does not count."""
    depth = _depth(dataset, name)
    return None if depth == _NOWHERE else type(dataset).__mro__[max(depth, 0)]


def _is_torchs(owner: type) -> bool:
    return owner.__module__.startswith(Dataset.__module__.rpartition(".")[0])  # torch.utils.data
