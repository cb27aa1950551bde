"""What to do when memory does not suffice."""

import torch

from utils.errors import RunError


def explain_memory(error: BaseException, size: int, step: int) -> None:
    """Turn an out-of-memory error of a step into one that says how large the batch was and what to try.

    `size`: samples in the batch.

    Raises:
        RunError: it is one.
    """
    if is_out_of_memory(error):
        reason = " ".join(str(error).split())[:300]
        raise RunError(
            f"step {step}: out of memory with a batch of {size}: {reason}\n"
            f"Try a smaller batch (--bs {max(1, size // 2)}), a smaller model, or another device (-d)."
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA has an exception of its own; the CPU's allocator raises a plain RuntimeError."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
