"""How many CPU cores this process may use, and that torch uses no more."""

import math
import os
from pathlib import Path

import torch

_V2 = Path("/sys/fs/cgroup/cpu.max")
_V1 = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def available_cores() -> int:
    """Cores that the process may run on, and that its container (docker --cpus, a Kubernetes limit) grants it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        words = _V2.read_text().split() if _V2.exists() else [path.read_text().strip() for path in _V1]
        quota, period = map(int, words)
    except (OSError, ValueError):  # no such system, or "max": no limit
        return cores
    return min(cores, max(1, math.ceil(quota / period))) if quota > 0 else cores


def fit_threads() -> None:
    """Have torch use no more threads than there are cores for them: it does not see a container's limit, and threads
    that wait for each other's cores are slower than few. OMP_NUM_THREADS, where it is set, decides."""
    if "OMP_NUM_THREADS" not in os.environ and available_cores() < torch.get_num_threads():
        torch.set_num_threads(available_cores())
