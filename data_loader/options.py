"""How data are loaded: the config's `data_loader` section."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Sampler

from utils.errors import ConfigError

SamplerFactory = Callable[..., Sampler[Any]]


@dataclass(frozen=True)
class LoaderOptions:
    """The keys of the config's `data_loader` section.

    batch_size: samples in a batch; None with a `batch_sampler`, or for an iterable data set that gives whole batches.
    shuffle, drop_last: for training alone; the other splits are read in order, and whole.
    sampler, batch_sampler: for training alone; called with those of data_source, dataset, generator, batch_size that
        they take. Let what draws numbers draw them from `generator`, and each pass can be repeated.
    pin_memory: None for "where there is a GPU".
    num_workers, prefetch_factor, persistent_workers, timeout, multiprocessing_context: as in torch's DataLoader.

    Raises:
        ConfigError: values that cannot be, all of them.
    """

    batch_size: int | None = None
    shuffle: bool = True
    drop_last: bool = False
    sampler: SamplerFactory | None = None
    batch_sampler: SamplerFactory | None = None
    num_workers: int = 0
    pin_memory: bool | None = None
    prefetch_factor: int | None = None
    persistent_workers: bool = False
    timeout: float = 0
    multiprocessing_context: str | None = None

    def __post_init__(self) -> None:
        mistakes = []
        for name, least, optional in (("batch_size", 1, True), ("num_workers", 0, False)):
            value = getattr(self, name)
            is_whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
            if not is_whole and not (optional and value is None):
                mistakes.append(f"data_loader.{name}: found {value!r}. Write a whole number of at least {least}.")
        for name in ("shuffle", "drop_last", "persistent_workers"):
            if not isinstance(getattr(self, name), bool):
                mistakes.append(f"data_loader.{name}: found {getattr(self, name)!r}. Write true or false.")
        for name in ("sampler", "batch_sampler"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                mistakes.append(f'data_loader.{name}: found {value!r}. Write {{"type": NAME, "args": {{...}}}}.')
        if self.sampler and self.batch_sampler:
            mistakes.append("data_loader: sampler and batch_sampler exclude each other.")
        if mistakes:
            raise ConfigError(*mistakes)

    def for_torch(self) -> dict[str, Any]:
        """The arguments that torch's DataLoader gets whatever the data set."""
        return {
            "num_workers": self.num_workers,
            "pin_memory": torch.cuda.is_available() if self.pin_memory is None else self.pin_memory,
            "prefetch_factor": self.prefetch_factor,
            "persistent_workers": self.persistent_workers,
            "timeout": self.timeout,
            "multiprocessing_context": self.multiprocessing_context,
            "generator": torch.Generator(),  # else the workers' seeds are drawn from the global one, now and then
        }
