"""An iterable data set, read by several processes and by the workers of each, so that every sample comes once."""

from collections.abc import Callable, Iterator
from itertools import chain, islice, repeat
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info
from torch.utils.data._utils import worker as torchs_worker

from utils.batches.failures import Failure, described_misfit, failure
from utils.batches.seeded_batches import isolated, shared
from utils.batches.sharding import own_samples
from utils.distributed.processes import rank, world_size


class Reader(IterableDataset[Any]):
    """An iterable data set whose exceptions come out as a `Failure`, too.

    `seed`: of all passes. `size`: samples in a batch of this process.
    """

    def __init__(self, dataset: IterableDataset[Any], collate: Callable[[list[Any]], Any], seed: str, size: int):
        self.dataset = dataset
        self._collate = collate
        self._seed = seed
        self._size = size
        self._pass = 0

    def set_epoch(self, number: int) -> None:
        """Tell the data set its pass, if it listens."""
        self._pass = number
        if hasattr(self.dataset, "set_epoch"):  # torch's word for "the next pass"
            self.dataset.set_epoch(number)

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from _share(self.dataset, f"{self._seed}/{self._pass}", self._size)
        except (Exception, SystemExit) as error:
            yield from repeat(failure("", error))  # more than once: the last samples may make no batch

    def collate(self, samples: list[Any]) -> Any:
        """A batch of samples; a failure if one is among them."""
        try:
            failed = next((sample for sample in samples if isinstance(sample, Failure)), None)
            batch = failed or self._collate(samples)
        except Exception as error:
            misfit = described_misfit(
                [f"{number} of the batch" for number in range(1, 1 + len(samples))], samples, self._collate
            )
            return Failure(misfit) if misfit else failure("combining samples into a batch", error)
        return shared(batch)


class _WatchedInfo:
    """Replaces torch's worker info, and notes whether the data set reads which worker it is, to share itself out."""

    def __init__(self, info: Any):
        self._info = info
        self.is_read = False

    def __getattr__(self, name: str) -> Any:
        if name in ("id", "num_workers"):
            self.is_read = True
        return getattr(self._info, name)


def _share(dataset: Any, seed: str, size: int) -> Iterator[Any]:
    """The samples of this process and worker. Where the data set does not ask for the number of the worker, the workers
    get its `shard`s, or the batches in turn: the same batches as without workers, if it is read with the same `seed`.

    Raises:
        TypeError: the data set asks for the number of the worker after its first sample.
    """
    info, own = get_worker_info(), _opened(dataset, rank(), world_size())
    if info is None:
        return own
    number, workers = info.id, info.num_workers
    watched = torchs_worker._worker_info = _WatchedInfo(info)  # type: ignore[assignment]
    assert get_worker_info() is watched, "torch keeps the worker info elsewhere now"
    pieces = isolated(_pieces(own, size), seed)
    first = next(pieces)
    if watched.is_read:
        return chain(first, own)
    if hasattr(dataset, "shard") and workers > 1:
        own = _opened(dataset, rank() * workers + number, world_size() * workers)
        return _without_late_question(chain(next(isolated(_pieces(own, size), seed)), own), watched, dataset)
    samples = enumerate(_without_late_question(chain(first, chain.from_iterable(pieces)), watched, dataset))
    return (sample for place, sample in samples if place // size % workers == number)


def _opened(dataset: Any, index: int, shares: int) -> Iterator[Any]:
    """A share of it, of which nothing is called before the first sample is asked for."""
    yield from own_samples(dataset, index, shares)


def _pieces(samples: Iterator[Any], size: int) -> Iterator[list[Any]]:
    """The first sample, then so many at a time: to isolate each from the global generators would cost much."""
    yield [*islice(samples, 1)]
    while piece := [*islice(samples, size)]:
        yield piece


def _without_late_question(samples: Iterator[Any], watched: _WatchedInfo, dataset: Any) -> Iterator[Any]:
    for sample in samples:
        if watched.is_read and watched.num_workers > 1:
            raise TypeError(
                f"{type(dataset).__name__} asks get_worker_info() for its worker only after its first sample, so "
                "samples would come twice or never. Ask at the beginning of __iter__."
            )
        yield sample
        watched.is_read = False  # by `collate`, which may
