"""Randomness as a function of (seed, epoch, rank), and its state for a checkpoint."""

import hashlib
import random
import sys
from typing import Any

import torch


def derived_seed(*parts: int | str) -> int:
    """A 63-bit seed that is a function of its parts, and of nothing else."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def seed_everything(*parts: int | str) -> None:
    """Seed Python's, NumPy's and torch's global generators, on every device."""
    seed = derived_seed(*parts)
    torch.manual_seed(seed)
    _seed_cpu(seed)


class seeded:  # in the manner of torch.no_grad
    """`with seeded(...)`: the CPU's global generators start from a seed, and are put back after the block.

    Entered again, the same object goes on from where the block was left.
    """

    def __init__(self, *parts: int | str):
        self._seed = derived_seed(*parts)
        self._state: dict[str, Any] | None = None

    def __enter__(self) -> None:
        self._outside = _cpu_state()
        if self._state is not None:
            _set_cpu_state(self._state)
        else:
            _seed_cpu(self._seed)

    def __exit__(self, *exception: object) -> None:
        self._state = _cpu_state()
        _set_cpu_state(self._outside)


def rng_state() -> dict[str, Any]:
    """The state of every global generator, as values that load with `weights_only=True`."""
    return _cpu_state() | {"cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def set_rng_state(state: dict[str, Any]) -> None:
    """Put back what `rng_state` gave; devices that are no longer there are passed over."""
    _set_cpu_state(state)
    for device, device_state in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
        torch.cuda.set_rng_state(device_state, device)


def _seed_cpu(seed: int) -> None:
    random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if "numpy" in sys.modules:  # torch.utils.data brings it where it is installed
        sys.modules["numpy"].random.seed(seed % 2**32)


def _cpu_state() -> dict[str, Any]:
    state: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    if "numpy" in sys.modules:
        name, keys, *rest = sys.modules["numpy"].random.get_state()
        state["numpy"] = (name, torch.from_numpy(keys.copy()), *rest)
    return state


def _set_cpu_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    if "numpy" in state and "numpy" in sys.modules:
        name, keys, *rest = state["numpy"]
        sys.modules["numpy"].random.set_state((name, keys.numpy(), *rest))
