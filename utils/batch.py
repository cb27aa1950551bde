"""Batches of any nesting: tensors in tuples, lists and dicts."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor


def move(batch: Any, device: torch.device) -> Any:
    """The batch on a device: its tensors, and whatever else has a method `to`, such as a PackedSequence."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if callable(getattr(batch, "to", None)):
        return batch.to(device)
    if isinstance(batch, dict):
        return {key: move(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(move(item, device) for item in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(move(item, device) for item in batch)
    return batch


def split(batch: Any, count: int) -> list[Any]:
    """The batch in so many parts, as equal as can be, in order: tensors and lists that have an item a sample are cut,
    whatever else is in it is in every part."""
    if count == 1:
        return [batch]
    whole = batch_size(batch)
    bounds = [whole * number // count for number in range(count + 1)]
    return [_cut(batch, start, end, whole) for start, end in pairwise(bounds)]


def _cut(batch: Any, start: int, end: int, whole: int) -> Any:
    if isinstance(batch, dict):
        return {key: _cut(value, start, end, whole) for key, value in batch.items()}
    if isinstance(batch, Tensor):
        return batch[start:end] if batch.dim() and len(batch) == whole else batch
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_cut(item, start, end, whole) for item in batch))
    if isinstance(batch, list) and len(batch) == whole and not any(isinstance(item, Tensor) for item in batch):
        return batch[start:end]
    return type(batch)(_cut(item, start, end, whole) for item in batch) if isinstance(batch, (tuple, list)) else batch


def batch_size(batch: Any) -> int:
    """How many samples a batch holds: the first dimension of its first tensor.

    Raises:
        TypeError: there is no tensor in it.
    """
    for tensor in tensors(batch):
        return len(tensor)
    raise TypeError(f"a {type(batch).__name__} without a tensor does not tell how many samples it holds")


def tensors(batch: Any) -> Iterator[Tensor]:
    """The tensors in it, in order."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, (dict, tuple, list)):
        for item in batch.values() if isinstance(batch, dict) else batch:
            yield from tensors(item)
