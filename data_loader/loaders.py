"""From a data set to its batches, pass after pass, each the same whenever and wherever it is made again."""

import logging
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, cast

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
)

from data_loader.advice import advise
from data_loader.defaults import fitted
from data_loader.lockstep import in_lockstep
from data_loader.methods import check_length, collate_of, length_of, slow_path_note
from data_loader.repeatable import Fetcher, Order, isolated
from data_loader.streams import Reader
from data_loader.workers import POLL_SECONDS, batches_of
from utils.distributed import world_size
from utils.errors import BatchError, ConfigError
from utils.options import LoaderOptions
from utils.seed import derived_seed
from utils.signals import ignore_stop_signals

log = logging.getLogger(__name__)
_CPU = torch.device("cpu")
WORKER_SECONDS = 600.0  # that a worker may take for a batch


def make_batches_of_splits(
    datasets: Mapping[str, Dataset[Any]], seed: int, options: LoaderOptions, device: torch.device
) -> dict[str, "Batches"]:
    """The batches of each split that has samples, for a model on `device`; "train" must have some."""
    check_length(*datasets.values())
    for note in dict.fromkeys(filter(None, map(slow_path_note, datasets.values()))):
        log.info(note)
    return {
        split: make_batches(dataset, split, seed, options, device)
        for split, dataset in datasets.items()
        if split == "train" or length_of(dataset) != 0
    }


def make_batches(
    dataset: Dataset[Any], split: str, seed: int, options: LoaderOptions, device: torch.device = _CPU
) -> "Batches":
    """The batches of a split, for a model on `device`; of several processes, this one's part of each. The data set may
    bring `collate(samples)`, and `__getitems__(indices)` for whole batches.

    Raises:
        ConfigError: options that do not suit the data set, or leave no batch.
    """
    make = _iterable_batches if isinstance(dataset, IterableDataset) else _indexed_batches
    if options.batch_size is not None and world_size() > 1 and split == "train":
        _check_shares(options.batch_size, dataset)
    try:
        return make(dataset, split, f"{seed}/{split}", fitted(options, dataset, device))
    except (ValueError, AssertionError, OverflowError) as error:  # torch uses all for values that cannot be
        raise ConfigError(f"data_loader: {error}.") from error


def _check_shares(batch_size: int, dataset: Any) -> None:
    ranks, is_stream = world_size(), isinstance(dataset, IterableDataset)
    if batch_size < ranks or (is_stream and batch_size % ranks):
        raise ConfigError(
            f"data_loader.batch_size: {batch_size} samples cannot be shared among {ranks} processes"
            f"{' equally, as an iterable data set needs it' if is_stream else ''}. It is the size for all together."
        )
    if not is_stream and len(dataset) < ranks:
        raise ConfigError(f"dataset: {len(dataset)} training samples are too few for {ranks} processes.")
    log.info("%d processes, batch_size %d: %g samples each.", ranks, batch_size, batch_size / ranks)


def _indexed_batches(dataset: Any, split: str, seed: str, options: LoaderOptions) -> "Batches":
    generator, is_training = torch.Generator(), split == "train"
    is_custom = is_training and bool(options.sampler or options.batch_sampler)
    order = Order(_index_batches(dataset, is_training, generator, options), generator, seed, is_custom)
    if is_training and order.steps() == 0:
        raise ConfigError(_why_no_batch(len(dataset), options))
    fetcher = Fetcher(dataset, collate_of(dataset))
    loader = DataLoader(fetcher, sampler=order, batch_size=None, collate_fn=_as_it_is, **_for_torch(options))
    return Batches(loader, order, split, seed, len(dataset), _seconds(options))


def _why_no_batch(samples: int, options: LoaderOptions) -> str:
    if not samples:
        return "dataset: the training set is empty: its __len__ returns 0. Look at what it reads for split 'train'."
    if options.sampler or options.batch_sampler:
        return (
            f"data_loader: the sampler gives no batch of the {samples} training samples: its __len__ returns too few."
        )
    return (
        f"data_loader.batch_size: {options.batch_size} is more than the {samples} training samples, and drop_last "
        f"leaves out the incomplete batch. Write at most {samples}, or drop_last: false."
    )


def _index_batches(
    dataset: Any, is_training: bool, generator: torch.Generator, options: LoaderOptions
) -> Sampler[list[int]]:
    size = options.batch_size
    if size is None:
        raise ConfigError("data_loader.batch_size: missing. Write how many samples make a batch.")
    sources = {"data_source": dataset, "dataset": dataset, "generator": generator, "batch_size": size}
    if is_training and world_size() > 1 and "DistributedSampler" in str(options.sampler):
        raise ConfigError("data_loader.sampler: each process has its part already. Leave DistributedSampler out.")
    if is_training and options.batch_sampler:
        return options.batch_sampler(**sources)
    indices: Sampler[int]
    if is_training and options.sampler:
        indices = options.sampler(**sources)
    elif is_training and options.shuffle is not False and len(dataset):
        indices = RandomSampler(dataset, generator=generator)
    else:
        indices = SequentialSampler(dataset)
    return BatchSampler(indices, size, options.drop_last and is_training)


def _iterable_batches(dataset: Any, split: str, seed: str, options: LoaderOptions) -> "Batches":
    if options.sampler or options.batch_sampler or options.persistent_workers:
        raise ConfigError(
            "data_loader: an iterable data set decides its own order, and its workers start anew each pass, "
            "so that a pass can be repeated. Leave out sampler, batch_sampler and persistent_workers."
        )
    is_batching = options.batch_size is not None
    size = options.batch_size // world_size() if options.batch_size is not None else None
    reader = Reader(dataset, collate_of(dataset), seed, size or 1)
    loader = DataLoader(
        reader,
        size,
        collate_fn=reader.collate if is_batching else _as_it_is,
        drop_last=options.drop_last and split == "train" and is_batching,
        **_for_torch(options),
    )
    return Batches(loader, None, split, seed, length_of(dataset), _seconds(options))


def _for_torch(options: LoaderOptions) -> dict[str, Any]:
    """The arguments that torch's DataLoader gets whatever the data set."""
    return {
        "num_workers": options.num_workers,
        "pin_memory": options.pin_memory,
        "prefetch_factor": options.prefetch_factor,
        "persistent_workers": options.persistent_workers,
        "timeout": POLL_SECONDS if options.num_workers else 0,
        "worker_init_fn": ignore_stop_signals,
        "multiprocessing_context": options.multiprocessing_context,
        "generator": torch.Generator(),  # else the workers' seeds are drawn from the global one, now and then
    }


def _seconds(options: LoaderOptions) -> float:
    return WORKER_SECONDS if options.timeout is None else options.timeout


class Batches:
    """Passes over a split. A pass of training batches is a function of (seed, pass); other splits repeat one pass.

    Between batches, `state_dict` is the position; after `load_state_dict` the next `epoch` goes on from there, without
    loading what was passed over (iterable data sets, which know no positions, are read again up to it).

    `weight`: what a mean over the batch given last weighs in the average over the processes: 1 where all have equally
    large parts of it.
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
        has_equal_parts = order is not None and samples is not None and samples >= world_size()
        self._sizes = order.sizes if order is not None and has_equal_parts else None
        self.weight = 1.0
        self._passes = self._taken = 0
        self._iterator: Iterator[tuple[Any, float]] | None = None
        self._has_advised = False
        self._tried: list[Any] = []  # the batch of a trial, for the next one: loading may cost

    @property
    def dataset(self) -> Any:
        return cast("Fetcher | Reader", self._loader.dataset).dataset

    def steps_per_pass(self) -> int | None:
        return None if self._order is None else self._order.steps()

    def epoch(self, steps: int | None = None) -> Iterator[Any]:
        """The next `steps` batches, into the next passes where need be; or what is left of a pass. A split that repeats
        one pass begins it anew each time, and ends with it.

        Raises:
            ConfigError: a whole pass gave no batch.
            BatchError: a sample cannot be loaded, or a worker has died or hangs. The position stays before that batch.
            Stopped: a signal asked for it, after the step that was made with the last batch.
        """
        self._tried = []
        if not self._advances:
            for batch, _ in in_lockstep(islice(self._open_pass(steps), steps), self._sizes, is_training=False):
                yield batch
            return
        count = 0
        while steps is None or count < steps:
            if self._iterator is None:
                self._iterator = in_lockstep(self._open_pass(), self._sizes, is_training=True)
            for batch, weight in self._iterator:
                self.weight = weight
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

    def trial(self) -> Any:
        """The first batch of the pass, to try a step on; the position stays."""
        if self._tried:
            return self._tried.pop()
        position = self.state_dict()
        self.load_state_dict(position | {"taken": 0})
        for batch in self._open_pass(1):
            self.load_state_dict(position)
            self._tried = [batch]
            return batch
        raise ConfigError(f"dataset: the {self._split} samples give no batch.")

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        self._passes, self._taken = state["passes"], state["taken"]
        for name, now in self.state_dict().items():
            if name in ("samples", "workers") and state.get(name, now) != now:
                log.warning(
                    "dataset: %d %s for %r now, %d when the checkpoint was made: the resume is not exact.",
                    now, name, self._split, state[name],
                )  # fmt: skip
        self._iterator, self._tried = None, []

    def _open_pass(self, end: int | None = None) -> Iterator[Any]:
        """The batches from the position on; where an order is known, up to before `end`."""
        where = f"the {self._split} samples, pass {self._passes + 1}"
        if self._order is not None:
            self._order.start(self._passes, self._taken, end)
            return batches_of(self._loader, where, self._taken, self._seconds)
        pass_seed, reader = f"{self._seed}/{self._passes}", cast(Reader, self._loader.dataset)
        self._loader.generator.manual_seed(derived_seed(pass_seed))  # the workers' seeds come from it
        reader.set_epoch(self._passes)
        iterator = batches_of(self._loader, where, 0, self._seconds)
        if self._loader.num_workers == 0:
            iterator = isolated(iterator, pass_seed)
        if self._taken:
            log.info("Reading %d batches again to reach the one where the run stopped.", self._taken)
        for number in range(self._taken):
            if next(iterator, None) is None:
                raise BatchError(f"{where}: ends after {number} batches; {self._taken} had been read before.")
        return iterator


def _as_it_is(batch: Any) -> Any:
    return batch
