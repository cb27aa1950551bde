"""What makes a batch the same whenever it is made: its indices and its randomness are functions of its position."""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from torch.utils.data import BatchSampler, Dataset, Sampler, get_worker_info

from utils.batch import tensors
from utils.batches.failures import Failure, described_misfit, failure
from utils.batches.methods import gives_batches, length_of
from utils.batches.sharding import Sizes, own_parts
from utils.distributed.processes import rank, world_size
from utils.seed import cpu_rng_state, derived_seed, seeded, set_cpu_rng_state

log = logging.getLogger(__name__)
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
        self._has_warned = False
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
        steps = length_of(batches)  # BatchSampler asks the sampler inside
        if steps is None:
            return None
        is_plain = type(batches) is BatchSampler and not batches.drop_last
        rest = len(batches.sampler) % batches.batch_size if is_plain else 0
        return steps - (steps > 1 and 0 < rest < world_size())  # see `own_parts`

    def __iter__(self) -> Iterator[Position]:
        seed = f"{self._seed}/{self._pass}"
        self._generator.manual_seed(derived_seed(seed))
        index_batches = iter(self._index_batches)
        drawn = isolated(index_batches, seed) if self._is_custom else index_batches
        own, suffix = own_parts(drawn, rank(), world_size()), f"/{rank()}" if rank() else ""
        count = self._first
        for number, (indices, whole) in islice(enumerate(own), self._first, self._end):
            self.sizes.append((len(indices), whole))
            self.counts.append(len(indices))
            count = number + 1
            yield f"{self._seed}/{self._pass}/{number}{suffix}", indices
        if self._is_custom and self._end is None and world_size() == 1:
            self._compare(count, self.steps())

    def _compare(self, count: int, expected: int | None) -> None:
        if expected not in (None, count) and not self._has_warned:
            self._has_warned = True
            log.warning(
                "data_loader: this pass had %d batches, but %d by the __len__ of the sampler. Correct its __len__: the "
                "schedule and the progress bar rely on it.", count, expected,
            )  # fmt: skip


_NO_SAMPLES = (
    "__getitems__ returned a list of {} for {} samples. Return a tuple for a ready batch, or a list with one entry for "
    "each sample"
)


class Fetcher(Dataset[Any]):
    """A data set of batches: takes positions for indices. The randomness of a batch does not depend on the worker."""

    def __init__(self, dataset: Dataset[Any], collate: Callable[[list[Any]], Any]):
        self.dataset = dataset
        self._collate = collate
        self._gives_batches = gives_batches(dataset)

    def __getitem__(self, position: Position) -> Any:
        seed, indices = position
        try:
            with seeded(seed):
                samples = self._fetch(indices)
            # Subsets of torch's answer __getitems__ with a list of samples; anything else is a batch already.
            batch = self._collate(samples) if isinstance(samples, list) else samples
            if batch is None:
                method = "collate" if isinstance(samples, list) else "__getitems__"
                return Failure(f"{type(self.dataset).__name__}.{method} returns None. Return the batch.")
            return shared(batch)
        except (Exception, SystemExit) as error:
            caught = error  # what follows must not be raised while this one is handled
        return self._failure(seed, indices, caught)

    def _fetch(self, indices: list[int]) -> Any:
        if self._gives_batches:
            found = self.dataset.__getitems__(indices)  # type: ignore[attr-defined]
            if isinstance(found, list) and len(found) != len(indices):
                raise TypeError(_NO_SAMPLES.format(len(found), len(indices)))
            return found
        return [self.dataset[index] for index in indices]

    def _failure(self, seed: str, indices: list[int], error: BaseException) -> Failure:
        """Read the samples again, one by one, to name the one that fails on its own, too, or that does not fit."""
        samples: list[Any] = []
        for index in indices:
            try:
                with seeded(seed):
                    fetched = self._fetch([index])
            except (Exception, SystemExit) as own_error:
                return failure(f"sample {index}", error, own_error)
            samples += fetched if isinstance(fetched, list) else []
        if misfit := described_misfit(indices, samples, self._collate):
            return Failure(misfit)
        for index, sample in zip(indices, samples, strict=False):
            try:
                self._collate([sample])
            except Exception as own_error:
                if repr(own_error) == repr(error):
                    return failure(f"sample {index}", error)
        shown = ", ".join(map(str, indices[:8])) + ", ..." * (len(indices) > 8)
        return failure(f"one of the samples {shown}, or combining them into a batch", error)


def shared(batch: Any) -> Any:
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
