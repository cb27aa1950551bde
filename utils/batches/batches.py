"""Passes over the batches of a split, each the same whenever and wherever it is made again."""

import logging
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple, cast

from torch.utils.data import DataLoader

from utils.batch import batch_size
from utils.batches.advice import advise
from utils.batches.failures import Failure
from utils.batches.seeded_batches import Fetcher, Order, isolated
from utils.batches.sharding import in_lockstep
from utils.batches.streams import Reader
from utils.batches.workers import batches_of
from utils.distributed.processes import world_size
from utils.errors import BatchError, ConfigError
from utils.seed import derived_seed, seeded
from utils.snapshot import untouched

log = logging.getLogger(__name__)
MOST_BYTES = 1 << 20  # of a tensor in a data set that a trial puts back


class Batches:
    """Passes over a split. A pass of training batches is a function of (seed, pass); other splits repeat one pass.

    Between batches, `state_dict` is the position; after `load_state_dict` the next `epoch` continues there, without
    loading what was passed over (iterable data sets, which know no positions, are read again up to it).

    `samples`: in this process's part of the batch returned last. `gradient_weight`: what a mean over that part weighs
    in the average over the processes: 1 where all have equally large parts. `weight`: 1; earlier versions of this
    project left it to the step to multiply its loss by the weight.
    """

    def __init__(
        self, loader: DataLoader[Any], order: Order | None, split: str, seed: str, samples: int | None, seconds: float
    ):
        self._loader = loader
        self._seconds = seconds
        self._order = order
        self._split = split
        self._seed = seed
        self._samples = samples
        self._advances = split == "train"
        self._last = _Last()
        has_equal_parts = order is not None and samples is not None and samples >= world_size()
        self._sizes = order.sizes if order is not None and has_equal_parts else None
        self.weight = self.gradient_weight = 1.0
        self._passes = self._taken = 0
        self._iterator: Iterator[tuple[Any, float]] | None = None
        self._has_advised = False
        self._tried: dict[bool, tuple[Any, int]] = {}  # batches of a trial, for the next one: loading may cost

    @property
    def dataset(self) -> Any:
        return cast("Fetcher | Reader", self._loader.dataset).dataset

    def steps_per_pass(self) -> int | None:
        return None if self._order is None else self._order.steps()

    def epoch(self, steps: int | None = None) -> Iterator[Any]:
        """The next `steps` batches, across passes if needed; without `steps`, the rest of the pass. A split that
        repeats one pass starts it again in each call, and ends with it.

        Raises:
            ConfigError: a whole pass gave no batch.
            BatchError: a sample cannot be loaded, or a worker has died or hangs. The position stays before that batch.
            Stopped: a signal asked for it, after the step that was made with the last batch.
        """
        self._tried = {}
        if not self._advances:
            for batch, _ in self._in_lockstep(islice(self._open_pass(steps), steps)):
                yield batch
            return
        count = 0
        while steps is None or count < steps:
            if self._iterator is None:
                self._iterator = self._in_lockstep(self._open_pass())
            for batch, weight in self._iterator:
                self.gradient_weight = weight
                self._taken += 1
                count += 1
                yield batch
                if count == steps:
                    return
            if self._taken == 0:
                raise ConfigError("dataset: the training set gave no batch.")
            self._passes += 1
            self._taken, self._iterator = 0, None
            if steps is None:
                return

    def state_dict(self) -> dict[str, Any]:
        workers = self._loader.num_workers if self._order is None else None  # who deal a stream out among themselves
        return {"passes": self._passes, "taken": self._taken, "samples": self._samples, "workers": workers}

    def advise(self, wait_seconds: float, seconds: float) -> None:
        """Say, once, what would help where the steps of the last pass waited much for their batches."""
        if not self._has_advised:
            self._has_advised = advise(self.dataset, self._loader.num_workers, wait_seconds, seconds)

    def trial(self, is_last: bool = False) -> Any:
        """The first batch of the pass, or the last one, to try a step on. The position stays, and so does what the data
        set holds.

        `is_last`: None is returned where the last batch is not known, or as large as the first.
        """
        if is_last in self._tried:
            batch, self.samples = self._tried.pop(is_last)
            return batch
        number = (self.steps_per_pass() or 1) - 1 if is_last else 0
        if is_last and number == 0:
            return None
        tried, position = self._tried, self.state_dict()
        self.load_state_dict(position | {"taken": number})
        with untouched(self.dataset, most_bytes=MOST_BYTES):
            batch = next(self._open_pass(number + 1), None)
        self.load_state_dict(position)
        if batch is None and is_last:  # a sampler whose length is wrong
            return None
        if batch is None:
            raise ConfigError(f"dataset: the {self._split} samples give no batch.")
        self._tried = tried | {is_last: (batch, self.samples)}
        return batch

    def first_samples(self, count: int) -> Any:
        """A batch of the first samples of the first batch alone; None of a stream that returns batches."""
        with untouched(self.dataset, most_bytes=MOST_BYTES):
            if self._order is not None:
                self._order.start(self._passes, 0, 1)
                seed, indices = next(iter(self._order))
                return cast(Fetcher, self._loader.dataset)[seed, indices[:count]]
            if self._loader.batch_size is None:
                return None
            reader = cast(Reader, self._loader.dataset)
            with seeded(f"{self._seed}/{self._passes}"):
                return reader.collate(list(islice(reader, count)))

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        self._passes, self._taken = state["passes"], state["taken"]
        for name, now in self.state_dict().items():
            if name in ("samples", "workers") and state.get(name, now) != now:
                log.warning(
                    "dataset: %d %s for %r now, %d when the checkpoint was made: the resume is not exact.",
                    now, name, self._split, state[name],
                )  # fmt: skip
        self._iterator, self._tried = None, {}

    def _open_pass(self, end: int | None = None) -> Iterator[Any]:
        """The batches from the position on; where an order is known, up to before `end`."""
        where = f"the {self._split} samples, pass {self._passes + 1}"
        if self._order is not None:
            self._order.start(self._passes, self._taken, end)
            return _with_samples(batches_of(self._loader, where, self._taken, self._seconds), self._order, self._last)
        pass_seed, reader = f"{self._seed}/{self._passes}", cast(Reader, self._loader.dataset)
        self._loader.generator.manual_seed(derived_seed(pass_seed))  # the workers' seeds come from it
        reader.set_epoch(self._passes)
        iterator = _with_samples(batches_of(self._loader, where, 0, self._seconds), None, self._last)
        if self._loader.num_workers == 0:
            iterator = isolated(iterator, pass_seed)
        if self._taken:
            log.info("Reading %d batches again to reach the one where the run stopped.", self._taken)
        for number in range(self._taken):
            if next(iterator, None) is None:
                raise BatchError(f"{where}: ends after {number} batches; {self._taken} had been read before.")
        return iterator

    @property
    def samples(self) -> int:
        return self._last.samples

    @samples.setter
    def samples(self, number: int) -> None:
        self._last.samples = number

    def _in_lockstep(self, batches: Iterator[Any]) -> Iterator[tuple[Any, float]]:
        return in_lockstep(batches, self._sizes, self._last, self._advances)


class _Last:
    """How many samples are in the batch returned last: an object of its own, or a loader and its passes would hold each
    other, and its workers live until Python collects the circle."""

    samples = 0

    def __call__(self) -> int:
        return self.samples


def _with_samples(batches: Iterator[Any], order: Order | None, last: _Last) -> Iterator[Any]:
    """The batches; `last` says how many samples are in each: as many as were asked for, or were put together."""
    for batch in batches:
        if order is not None:
            last.samples = order.counts.popleft()
        elif isinstance(batch, Counted):
            last.samples, batch = batch
        else:
            last.samples = batch_size(batch)
        yield batch


class Counted(NamedTuple):
    """A batch of a stream, and how many samples were put together to it."""

    samples: int
    batch: Any


def counted(collate: Callable[[list[Any]], Any], samples: list[Any]) -> Any:
    batch = collate(samples)
    return batch if isinstance(batch, Failure) else Counted(len(samples), batch)
