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


def detached(batch: Any) -> Any:
    """The same values without gradients."""
    if isinstance(batch, Tensor):
        return batch.detach() if batch.requires_grad else batch
    if isinstance(batch, dict):
        return {key: detached(value) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*map(detached, batch))
    return type(batch)(map(detached, batch)) if type(batch) in (tuple, list) else batch


def split(batch: Any, samples: int, count: int) -> list[tuple[Any, int]]:
    """A batch of so many samples in parts as equal as can be, in order, each with its number of samples. Tensors whose
    first dimension is the samples, and lists with an entry for each, are cut; anything else is in every part."""
    if count == 1:
        return [(batch, samples)]
    bounds = [samples * number // count for number in range(count + 1)]
    return [(cut(batch, start, end, samples), end - start) for start, end in pairwise(bounds)]


def cut(batch: Any, start: int, end: int, whole: int) -> Any:
    if isinstance(batch, dict):
        return {key: cut(value, start, end, whole) for key, value in batch.items()}
    if isinstance(batch, Tensor):
        return batch[start:end] if batch.dim() and len(batch) == whole else batch
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(cut(item, start, end, whole) for item in batch))
    if isinstance(batch, list) and len(batch) == whole and not _are_parts(batch, whole):
        return batch[start:end]
    return type(batch)(cut(item, start, end, whole) for item in batch) if isinstance(batch, (tuple, list)) else batch


def _are_parts(items: list[Any], samples: int) -> bool:
    """Whether a list as long as there are samples is one of tensors with all samples, such as inputs and targets."""
    return all(isinstance(item, Tensor) and item.dim() and len(item) == samples for item in items)


def is_batch_first(batch: Any, samples: int, part: Any, part_samples: int) -> bool:
    """Whether all tensors have the samples as their first dimension, and lists an entry for each: told by another batch
    of other samples, made in the same way."""
    if isinstance(batch, Tensor):
        return batch.dim() == 0 or (len(batch), len(part)) == (samples, part_samples)
    if isinstance(batch, dict):
        return all(is_batch_first(value, samples, part[key], part_samples) for key, value in batch.items())
    if isinstance(batch, list) and (len(batch), len(part)) == (samples, part_samples):
        return True
    if isinstance(batch, (tuple, list)):
        pairs = zip(batch, part, strict=True)
        return all(is_batch_first(item, samples, other, part_samples) for item, other in pairs)
    return True


def described(batch: Any) -> str:
    """The form of a batch, in words: `(float32 (16, 1, 8, 8), int64 (16,))`."""
    if isinstance(batch, Tensor) or hasattr(batch, "dtype"):
        return f"{str(batch.dtype).removeprefix('torch.')} {tuple(batch.shape)}"
    if isinstance(batch, dict):
        return "a dict with " + ", ".join(f"{key}: {described(value)}" for key, value in batch.items())
    if isinstance(batch, (tuple, list)):
        shown = ", ".join([described(item) for item in batch[:4]] + ["..."] * (len(batch) > 4))
        return f"({shown})" if isinstance(batch, tuple) or len(batch) <= 4 else f"a list of {len(batch)}: [{shown}]"
    return f"a {type(batch).__name__}"


def batch_size(batch: Any) -> int:
    """The first dimension of a batch's tensors; 1, the batch itself, where they have different ones."""
    sizes = {len(tensor) for tensor in tensors(batch) if tensor.dim()}
    return sizes.pop() if len(sizes) == 1 else 1


def samples_in(batch: Any, asked: int) -> int:
    """How many samples a batch has that was asked for so many. `collate` may have left some out, or made more of each:
    then no tensor has so many in any dimension, and all have another number first."""
    if any(asked in tensor.shape for tensor in tensors(batch)):
        return asked
    found = batch_size(batch)
    return found if found > 1 else asked


def tensors(batch: Any) -> Iterator[Tensor]:
    """The tensors in it, in order."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, (dict, tuple, list)):
        for item in batch.values() if isinstance(batch, dict) else batch:
            yield from tensors(item)
