"""The CPU's cores and memory: what a run may use of them, and how it does not waste them."""

import ctypes
import math
import os
import sys
from pathlib import Path

import torch

from utils.distributed.processes import local_world_size

_V2 = Path("/sys/fs/cgroup/cpu.max")
_V1 = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # mallopt's names
_LARGE = 2**30


def available_cores() -> int:
    """Cores that the process may run on, and that its container (docker --cpus, a Kubernetes limit) grants it; of
    several processes on a machine, the share of one."""
    return max(1, _cores() // local_world_size())


def _cores() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        words = (
            _V2.read_text(encoding="utf-8").split()
            if _V2.exists()
            else [path.read_text(encoding="utf-8").strip() for path in _V1]
        )
        quota, period = map(int, words)
    except (OSError, ValueError):  # no such system, or "max": no limit
        return cores
    return min(cores, max(1, math.ceil(quota / period))) if quota > 0 else cores


def fit_threads() -> None:
    """Have torch use no more threads than there are cores for them: it does not see a container's limit, and threads
    that wait for each other's cores are slower than few. OMP_NUM_THREADS, where it is set, decides; torchrun sets it
    to 1 where it starts several processes."""
    if "OMP_NUM_THREADS" not in os.environ and available_cores() < torch.get_num_threads():
        torch.set_num_threads(available_cores())


def keep_freed_memory() -> None:
    """Have the C library keep what a step frees for the next one. It gives large blocks back to the system, which then
    clears every page anew: up to a third of a small model's step. MALLOC_ variables, where there are any, decide."""
    if sys.platform == "linux" and not any(name.startswith("MALLOC_") for name in os.environ):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's; others have none, or other ways
        if mallopt is not None:
            mallopt(_MMAP_THRESHOLD, _LARGE)
            mallopt(_TRIM_THRESHOLD, _LARGE)
