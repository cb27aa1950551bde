"""Sizes, and why a file could not be written, in terms of the disk."""

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from utils.batch import tensors


def why_not_written(error: OSError, folder: Path, content: Any) -> str:
    """The system's reason, which disk it was, how much was needed there, and how much there is."""
    size = sum(tensor.nbytes for tensor in tensors(content) if tensor.layout is torch.strided)
    needed = f"more than {readable_size(size)} needed, " if size else ""
    disk = folder.absolute()
    while not os.path.ismount(disk) and disk != disk.parent:
        disk = disk.parent
    try:
        free = readable_size(shutil.disk_usage(disk).free)
    except OSError:
        free = "an unknown size"
    return f"{error.strerror or error}: {needed}{free} free on the disk at {disk}"


def readable_size(size: float) -> str:
    """A number of bytes, to be read by people."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
