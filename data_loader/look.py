"""What a batch and a split hold, in words and in a picture: for `python -m data_loader`."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from utils.batches.methods import length_of, slow_path_note
from utils.encoding import print_visible
from utils.errors import UserError

SHOWN, MOST_CLASSES, MOST_ITEMS = 32, 20, 8


def described_split(batches: Any) -> str:
    steps = batches.steps_per_pass()
    samples = length_of(batches.dataset)
    text = "a stream" if samples is None else f"{samples:,} samples"
    text += f" in {steps:,} batches" if steps else ""
    classes = Counter(classes_of(batches))
    if not 1 < len(classes) <= MOST_CLASSES:
        return text
    return f"{text}; of class " + ", ".join(f"{name}: {classes[name]:,}" for name in sorted(classes))


def classes_of(batches: Any) -> list[Any]:
    """The class of every sample, where targets are whole numbers or texts: those that the data set keeps, if nothing
    changes them on their way; else those of a pass."""
    targets = None if slow_path_note(batches.dataset) else getattr(batches.dataset, "targets", None)
    if targets is not None:
        return _labels(targets)
    if batches.steps_per_pass() is None:
        return []  # a stream may have no end
    parts = [batch[1] for batch in batches.epoch() if isinstance(batch, (tuple, list)) and len(batch) == 2]
    return _labels([label for part in parts for label in _labels(part)])


def _labels(values: Any) -> list[Any]:
    """Whole numbers or texts as they are; nothing where there is anything else among them."""
    if isinstance(values, torch.Tensor) and (values.dim() != 1 or not _is_dense(values)):
        return []
    values = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(values, (list, tuple)):
        return []
    values = [value.item() if getattr(value, "shape", None) == () else value for value in values]
    return values if any(all(isinstance(value, kind) for value in values) for kind in (int, str)) else []


def named_values(batch: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Tensors, arrays, and whatever else is in it, in order; of a long list, the first items."""
    if not isinstance(batch, (dict, tuple, list)):
        yield name, batch
        return
    keys = batch if isinstance(batch, dict) else getattr(batch, "_fields", range(len(batch)))
    items = batch.values() if isinstance(batch, dict) else batch
    for key, item in islice(zip(keys, items, strict=True), MOST_ITEMS):
        yield from named_values(item, f"{name}.{key}".lstrip("."))
    if len(batch) > MOST_ITEMS:
        yield f"{name}...".lstrip("."), f"{len(batch)} in all"


def described(value: Any) -> str:
    """Its shape, type and limits, if it is a tensor or an array; else its text."""
    if isinstance(value, str):
        return repr(value if len(value) <= 80 else f"{value[:77]}...")
    if isinstance(value, torch.Tensor) and value.is_nested:
        return f"nested, of {value.size(0)} tensors, {str(value.dtype).removeprefix('torch.')}"
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        return f"{type(value).__name__} {str(value)[:80]}"
    kind = str(value.dtype).removeprefix("torch.")
    return f"{tuple(value.shape)!s:20} {kind:8} {_limits(as_tensor(value))}".rstrip()


def _limits(tensor: torch.Tensor | None) -> str:
    if tensor is None or not _is_dense(tensor):
        return ""  # neither sparse tensors nor texts have any
    if not tensor.numel():
        return "empty"
    is_complex = tensor.is_complex()
    values = (tensor.abs() if is_complex else tensor).double()
    spread = f", mean {values.mean():.3g}, std {values.std(correction=min(1, values.numel() - 1)):.3g}"
    limits = f"{values.min():.4g} to {values.max():.4g}" + (spread if tensor.is_floating_point() else "")
    return f"{limits} (absolute values)" if is_complex else limits


def as_tensor(value: Any) -> torch.Tensor | None:
    """A tensor of it, if it is one or an array of numbers."""
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):  # an array of texts or objects
        return None


def _is_dense(tensor: torch.Tensor) -> bool:
    return not tensor.is_nested and tensor.layout is torch.strided


def show(batch: Any, dataset: Any, path: Path) -> None:
    """Print or draw the inputs.

    Raises:
        UserError: the file cannot be written.
    """
    inputs = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    pictures = as_tensor(inputs) if isinstance(inputs, torch.Tensor) or type(inputs).__module__ == "numpy" else None
    if hasattr(dataset, "decode"):
        lines = [str(text).replace("\n", r"\n") for text in dataset.decode(inputs)[:SHOWN]]
        print_visible("\n".join(["", *(f"  {line}" for line in lines)]))
    elif pictures is not None and _is_picture(pictures):
        from torchvision.utils import save_image

        try:
            save_image(pictures[:SHOWN].float(), path, normalize=True, scale_each=True, padding=1)
        except (OSError, ValueError) as error:  # a folder that is not ours, or no known ending
            raise UserError(f"--out {path}: cannot be written: {error}. Name another file: --out batch.png.") from error
        print_visible(f"\ndrawn: {path}, the first {min(SHOWN, len(pictures))}")


def _is_picture(tensor: torch.Tensor) -> bool:
    """(B, 1 or 3, H, W) of real numbers."""
    is_real = _is_dense(tensor) and not tensor.is_complex()
    return is_real and tensor.dim() == 4 and tensor.shape[1] in (1, 3) and tensor.numel() > 0
