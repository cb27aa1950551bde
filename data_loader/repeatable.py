"""What makes a batch the same whenever it is made: its indices and its randomness are functions of its position."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import BatchSampler, Dataset, IterableDataset, Sampler, get_worker_info

from data_loader.lockstep import Sizes, own_parts, own_samples
from utils.batch import tensors
from utils.distributed import rank, world_size
from utils.frames import told
from utils.seed import cpu_rng_state, derived_seed, seeded, set_cpu_rng_state

Position = tuple[str, list[int]]  # the seed of a batch, and the indices of its samples


class Order(Sampler[Position]):
    """The index batches of one pass, each with a seed of its own; of several processes, this one's part of each.
    `start` before each pass.

    `generator`: the one that torch's samplers draw from, seeded here for each pass.
    `is_custom`: the sampler may draw from the global generators, too, and gets its own ones to do so.
    """

    def __init__(self, index_batches: Sampler[list[int]], generator: torch.Generator, seed: str, is_custom: bool):
        self._index_batches = index_batches
        self._is_custom = is_custom
        self._generator = generator
        self._seed = seed
        self._pass = self._first = 0
        self._end: int | None = None
        self.sizes: Sizes = deque()  # of the batches that are asked for
        self.counts: deque[int] = deque()  # of samples in them, for who reads them

    def start(self, number: int, first: int, end: int | None = None) -> None:
        """Make the next iteration pass `number`, from its batch `first` on; up to before `end`, so that no worker loads
        what nobody asks for."""
        self._pass, self._first, self._end = number, first, end
        self.sizes.clear()
        self.counts.clear()
        for sampler in (self._index_batches, getattr(self._index_batches, "sampler", None)):
            if sampler is not None and hasattr(sampler, "set_epoch"):  # torch's word for "the next pass"
                sampler.set_epoch(number)

    def steps(self) -> int | None:
        """Batches in a pass; None where the sampler does not know."""
        batches: Any = self._index_batches
        if not hasattr(batches, "__len__"):
            return None
        is_plain = type(batches) is BatchSampler and not batches.drop_last and hasattr(batches.sampler, "__len__")
        rest = len(batches.sampler) % batches.batch_size if is_plain else 0
        return len(batches) - (len(batches) > 1 and 0 < rest < world_size())  # see `own_parts`

    def __iter__(self) -> Iterator[Position]:
        seed = f"{self._seed}/{self._pass}"
        self._generator.manual_seed(derived_seed(seed))
        index_batches = iter(self._index_batches)
        drawn = isolated(index_batches, seed) if self._is_custom else index_batches
        own, suffix = own_parts(drawn, rank(), world_size()), f"/{rank()}" if rank() else ""
        for number, (indices, whole) in islice(enumerate(own), self._first, self._end):
            self.sizes.append((len(indices), whole))
            self.counts.append(len(indices))
            yield f"{self._seed}/{self._pass}/{number}{suffix}", indices


@dataclass(frozen=True)
class Failure:
    """Stands in the place of a batch that cannot be loaded. Words only, so that it comes out of a worker whole."""

    message: str


class Fetcher(Dataset[Any]):
    """A data set of batches: takes positions for indices. The randomness of a batch does not depend on the worker."""

    def __init__(self, dataset: Dataset[Any], collate: Callable[[list[Any]], Any]):
        self.dataset = dataset
        self._collate = collate

    def __getitem__(self, position: Position) -> Any:
        seed, indices = position
        try:
            with seeded(seed):
                samples = self._fetch(indices)
            # torch's own subsets answer __getitems__ with a list of samples; anything else is a batch already.
            batch = self._collate(samples) if isinstance(samples, list) else samples
        except (Exception, SystemExit) as error:
            return Failure(f"{self._culprit(seed, indices)}: {described(error)}")
        return _shared(batch)

    def _fetch(self, indices: list[int]) -> Any:
        if hasattr(self.dataset, "__getitems__"):
            return self.dataset.__getitems__(indices)
        return [self.dataset[index] for index in indices]

    def _culprit(self, seed: str, indices: list[int]) -> str:
        """The first sample that fails on its own, too; else all of them may be."""
        for index in indices:
            try:
                with seeded(seed):
                    self._fetch([index])
            except (Exception, SystemExit):
                return f"sample {index}"
        shown = ", ".join(map(str, indices[:8])) + ", ..." * (len(indices) > 8)
        return f"one of the samples {shown}, or their collation into a batch"


class Reader(IterableDataset[Any]):
    """An iterable data set whose exceptions come out as a `Failure`, too."""

    def __init__(self, dataset: IterableDataset[Any], collate: Callable[[list[Any]], Any]):
        self.dataset = dataset
        self._collate = collate

    def set_epoch(self, number: int) -> None:
        """Tell the data set its pass, if it listens."""
        if hasattr(self.dataset, "set_epoch"):  # torch's word for "the next pass"
            self.dataset.set_epoch(number)

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from own_samples(self.dataset, rank(), world_size())
        except (Exception, SystemExit) as error:
            yield from repeat(Failure(described(error)))  # more than once: the last samples may make no batch

    def collate(self, samples: list[Any]) -> Any:
        """A batch of samples; a failure if one is among them."""
        try:
            failure = next((sample for sample in samples if isinstance(sample, Failure)), None)
            batch = failure or self._collate(samples)
        except Exception as error:
            return Failure(f"collation into a batch: {described(error)}")
        return _shared(batch)


def _shared(batch: Any) -> Any:
    """In a worker, move the tensors to shared memory here, where it is told that there is none left: torch's own thread
    would do it later, print a traceback, and leave the run waiting for the batch."""
    try:
        for tensor in tensors(batch) if get_worker_info() is not None else ():
            if tensor.layout is torch.strided:
                tensor.share_memory_()
    except RuntimeError as error:
        return Failure(
            f"a worker has no shared memory for it: {error}. Make /dev/shm larger (docker: --shm-size), or the batches "
            "smaller and fewer (batch_size, num_workers, prefetch_factor), or --set data_loader.num_workers=0."
        )
    return batch


def described(error: BaseException) -> str:
    """The error with the lines of code that led to it, without those of this project's loading."""
    return told(error, without=[Path(__file__)])


def isolated(iterator: Iterator[Any], seed: str) -> Iterator[Any]:
    """The same items, drawn with generators of their own, so that they do not depend on what else draws numbers."""
    inside = None
    while True:
        with seeded(seed):
            if inside is not None:
                set_cpu_rng_state(inside)
            try:
                item = next(iterator)
            except StopIteration:
                return
            inside = cpu_rng_state()
        yield item
