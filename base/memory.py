"""What to do when memory does not suffice."""

from typing import Any

import torch

from utils.batch import batch_size
from utils.errors import RunError


def explain_memory(error: BaseException, batch: Any, step: int) -> None:
    """Turn an out-of-memory error of a step into one that says how large the batch was and what to try.

    Raises:
        RunError: it is one.
    """
    if is_out_of_memory(error):
        reason = " ".join(str(error).split())[:300]
        raise RunError(
            f"step {step}: out of memory with a batch of {batch_size(batch)}: {reason}\n"
            f"Try a smaller batch (--bs {max(1, batch_size(batch) // 2)}), a smaller model, or another device (-d)."
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA has an exception of its own; the CPU's allocator raises a plain RuntimeError."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
