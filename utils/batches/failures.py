"""Batches that cannot be loaded, in words that name the sample and its file."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import default_collate

from utils.batches.broken_file import file_behind
from utils.frames import told

# Their lines of code explain nothing: the loading of this project, and torch's.
_LOADING = [Path(__file__).with_name(name) for name in ("failures.py", "seeded_batches.py", "streams.py")]
_LOADING.append(Path(torch.__file__).parent / "utils" / "data")


@dataclass(frozen=True)
class Failure:
    """Replaces a batch that cannot be loaded. Text only, so that it can be sent from a worker process."""

    message: str


def failure(what: str, error: BaseException, of_sample: BaseException | None = None) -> Failure:
    """`what` cannot be loaded ("sample 12") because of an error. `of_sample`: the one that this sample alone causes,
    which knows its file."""
    file = file_behind(of_sample or error)
    where = ", ".join(filter(None, [what, file and f"file {file}"]))
    return Failure(f"{where}: {described(error)}" if where else described(error))


def described(error: BaseException) -> str:
    """The error with the lines of code that led to it, without those of the loading."""
    return told(error, without=_LOADING)


def described_misfit(names: list[Any], samples: list[Any], collate: Callable[[list[Any]], Any]) -> str | None:
    """Which of the samples cannot be in a batch with the first one; None where that is not the reason."""
    for name, sample in zip(names, samples, strict=False):
        if sample is None and _is_default(collate):
            return f"sample {name} is None: does __getitem__ return a sample?"
    shapes = [_shapes(sample) for sample in samples]
    for name, found in zip(names, shapes, strict=False):
        if _is_default(collate) and len(found) == len(shapes[0]) and found != shapes[0]:
            pair = next((one, other) for one, other in zip(shapes[0], found, strict=True) if one != other)
            return (
                f"sample {names[0]} has the shape {pair[0]}, sample {name} the shape {pair[1]}. Resize or crop all "
                "samples to one size, or write collate(samples) in the data set."
            )
    return None


def _is_default(collate: Any) -> bool:
    return collate is default_collate or getattr(collate, "__module__", "") == "base.base_dataset"


def _shapes(sample: Any) -> list[tuple[int, ...]]:
    """The shapes of all tensors and arrays in it, in order."""
    if isinstance(sample, (dict, tuple, list)):
        items = sample.values() if isinstance(sample, dict) else sample
        return [shape for item in items for shape in _shapes(item)]
    return [tuple(sample.shape)] if hasattr(sample, "shape") else []
