"""Randomness as a function of (seed, epoch, rank), and its state for a checkpoint."""

import hashlib
import random
import sys
from typing import Any

import torch

from utils.distributed.processes import rank


def derived_seed(*parts: int | str) -> int:
    """A 63-bit seed that is a function of its parts, and of nothing else."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def seed_everything(*parts: int | str) -> None:
    """Seed Python's, NumPy's and torch's global generators, on every device: on every rank the same."""
    seed = derived_seed(*parts)
    torch.manual_seed(seed)
    _seed_cpu(seed)


def seed_own(*parts: int | str) -> None:
    """Seed them on every rank otherwise."""
    seed_everything(*parts, *([rank()] if rank() else []))


class seeded:  # in the manner of torch.no_grad
    """`with seeded(...)`: the CPU's global generators start from a seed, and are put back after the block.

    Every batch is loaded within one, so it must be cheap (20 us): NumPy's state is not copied (50 us more), another
    generator takes its place. What is lost by that is NumPy's spare normal: see `drop_spare_normal`.
    """

    def __init__(self, *parts: int | str):
        self._seed = derived_seed(*parts)

    def __enter__(self) -> None:
        self._python, self._torch = random.getstate(), torch.default_generator.get_state()
        if "numpy" in sys.modules:
            numpy_random = sys.modules["numpy"].random
            self._numpy = numpy_random.get_bit_generator()
            numpy_random.set_bit_generator(_spare_generators.pop() if _spare_generators else numpy_random.MT19937())
        else:
            self._numpy = None
        _seed_cpu(self._seed)

    def __exit__(self, *exception: object) -> None:
        random.setstate(self._python)
        torch.default_generator.set_state(self._torch)
        if self._numpy is not None:
            numpy_random = sys.modules["numpy"].random
            _spare_generators.append(numpy_random.get_bit_generator())
            numpy_random.set_bit_generator(self._numpy)


_spare_generators: list[Any] = []  # NumPy's: making one costs as much as copying the state


def drop_spare_normal() -> None:
    """Forget the second of the two normal numbers that NumPy's global generator draws at once. `seeded` does so; where
    a worker loads the batch, this does it for the step, which must not depend on the number of workers."""
    if "numpy" in sys.modules:
        numpy_random = sys.modules["numpy"].random
        numpy_random.set_bit_generator(numpy_random.get_bit_generator())


def rng_state() -> dict[str, Any]:
    """The state of every global generator, as values that load with `weights_only=True`."""
    return cpu_rng_state() | {"cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def set_rng_state(state: dict[str, Any]) -> None:
    """Put back what `rng_state` gave; devices that are no longer there are passed over."""
    set_cpu_rng_state(state)
    for device, device_state in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
        torch.cuda.set_rng_state(device_state, device)


def _seed_cpu(seed: int) -> None:
    random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if "numpy" in sys.modules:  # torch.utils.data brings it where it is installed
        sys.modules["numpy"].random.seed(seed % 2**32)


def cpu_rng_state() -> dict[str, Any]:
    """The state of the CPU's global generators."""
    state: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    if "numpy" in sys.modules:
        name, keys, *rest = sys.modules["numpy"].random.get_state()
        state["numpy"] = (name, torch.from_numpy(keys.copy()), *rest)
    return state


def set_cpu_rng_state(state: dict[str, Any]) -> None:
    """Put back what `cpu_rng_state` gave."""
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    if "numpy" in state and "numpy" in sys.modules:
        name, keys, *rest = state["numpy"]
        sys.modules["numpy"].random.set_state((name, keys.numpy(), *rest))
