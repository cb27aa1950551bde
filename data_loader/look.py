"""What a batch and a split hold, in words and in a picture: for `python -m data_loader`."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

SHOWN, MOST_CLASSES = 32, 20


def described_split(batches: Any) -> str:
    steps = batches.steps_per_pass()
    text = f"{len(batches.dataset):,} samples" if hasattr(batches.dataset, "__len__") else "a stream"
    text += f" in {steps:,} batches" if steps else ""
    classes = Counter(classes_of(batches))
    if not 1 < len(classes) <= MOST_CLASSES:
        return text
    return f"{text}; of class " + ", ".join(f"{name}: {classes[name]:,}" for name in sorted(classes))


def classes_of(batches: Any) -> list[int]:
    """The class of every sample, where targets are whole numbers: those that the data set keeps, or those of a pass."""
    targets = getattr(batches.dataset, "targets", None)
    if targets is None and batches.steps_per_pass() is None:
        return []  # a stream may have no end
    if targets is None:
        parts = [batch[1] for batch in batches.epoch() if isinstance(batch, (tuple, list)) and len(batch) == 2]
        is_flat = all(isinstance(part, torch.Tensor) and part.dim() == 1 for part in parts)
        targets = torch.cat(parts) if parts and is_flat else torch.empty(0)
    targets = torch.as_tensor(targets)
    return [] if targets.is_floating_point() or targets.dim() != 1 else targets.tolist()


def named_tensors(batch: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if hasattr(batch, "shape"):
        yield name, batch
    elif isinstance(batch, (dict, tuple, list)):
        keys = batch if isinstance(batch, dict) else getattr(batch, "_fields", range(len(batch)))
        for key, item in zip(keys, batch.values() if isinstance(batch, dict) else batch, strict=True):
            yield from named_tensors(item, f"{name}.{key}".lstrip("."))


def described_tensor(tensor: Any) -> str:
    values = tensor.double()
    spread = f", mean {values.mean():.3g}, std {values.std():.3g}" if tensor.is_floating_point() else ""
    limits = f"{values.min():.4g} to {values.max():.4g}{spread}" if tensor.numel() else "empty"
    return f"{tuple(tensor.shape)!s:20} {str(tensor.dtype).removeprefix('torch.'):8} {limits}"


def show(batch: Any, dataset: Any, path: Path) -> None:
    inputs = batch[0] if isinstance(batch, (tuple, list)) else batch
    if hasattr(dataset, "decode"):
        lines = [text.replace("\n", r"\n") for text in dataset.decode(inputs)[:SHOWN]]
        print("", *(f"  {line}" for line in lines), sep="\n")
    elif getattr(inputs, "ndim", 0) == 4 and inputs.shape[1] in (1, 3):
        from torchvision.utils import save_image

        save_image(inputs[:SHOWN].float(), path, normalize=True, scale_each=True, padding=1)
        print(f"\ndrawn: {path}, the first {min(SHOWN, len(inputs))}")
