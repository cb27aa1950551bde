"""From a data set to its batches, pass after pass, each the same whenever and wherever it is made again."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, Sampler, SequentialSampler
from torch.utils.data import default_collate

from data_loader.repeatable import Fetcher, Order, isolated
from utils.errors import ConfigError
from utils.seed import derived_seed

log = logging.getLogger(__name__)

SamplerFactory = Callable[..., Sampler[Any]]
Collate = Callable[[list[Any]], Any]


def make_batches(
    dataset: Dataset[Any],
    split: str,
    seed: int,
    *,
    batch_size: int | None = None,
    shuffle: bool = True,
    drop_last: bool = False,
    sampler: SamplerFactory | None = None,
    batch_sampler: SamplerFactory | None = None,
    num_workers: int = 0,
    pin_memory: bool | None = None,
    prefetch_factor: int | None = None,
    persistent_workers: bool = False,
    timeout: float = 0,
    multiprocessing_context: str | None = None,
) -> "Batches":
    """The batches of a split. `shuffle`, `drop_last`, `sampler` and `batch_sampler` are for "train" alone:
    the other splits are read in order, whole.

    `sampler`, `batch_sampler`: called with those of data_source, dataset, generator, batch_size that they take.
    `pin_memory`: None for "where there is a GPU". The rest is as in `torch.utils.data.DataLoader`.

    Raises:
        ConfigError: values that cannot be, or that leave no batch.
    """
    _check(batch_size, num_workers, sampler, batch_sampler, shuffle, drop_last)
    is_training = split == "train"
    options = {
        "num_workers": num_workers,
        "pin_memory": torch.cuda.is_available() if pin_memory is None else pin_memory,
        "prefetch_factor": prefetch_factor,
        "persistent_workers": persistent_workers,
        "timeout": timeout,
        "multiprocessing_context": multiprocessing_context,
        "generator": torch.Generator(),  # else the workers' seeds are drawn from the global one, now and then
    }
    seed_of_split = f"{seed}/{split}"
    collate = getattr(dataset, "collate", default_collate)
    try:
        if isinstance(dataset, IterableDataset):
            if sampler or batch_sampler or persistent_workers:
                raise ConfigError(
                    "data_loader: an iterable data set decides its own order, and its workers start anew each pass, "
                    "so that a pass can be repeated. Leave out sampler, batch_sampler and persistent_workers."
                )
            loader = _iterable_loader(dataset, batch_size, collate, drop_last and is_training, options)
            return Batches(loader, None, seed_of_split, advances=is_training)
        order = Order(*_index_batches(dataset, batch_size, is_training, shuffle, drop_last, sampler, batch_sampler), seed_of_split)
        if is_training and len(order) == 0:
            raise ConfigError(f"data_loader: {len(dataset)} training samples give no batch of {batch_size}.")  # type: ignore[arg-type]
        loader = DataLoader(Fetcher(dataset, collate), sampler=order, batch_size=None, collate_fn=_as_it_is, **options)
    except ValueError as error:
        raise ConfigError(f"data_loader: {error}.") from error
    return Batches(loader, order, seed_of_split, advances=is_training)


def _iterable_loader(
    dataset: Dataset[Any], batch_size: int | None, collate: Collate, drop_last: bool, options: dict[str, Any]
) -> DataLoader[Any]:
    """`batch_size` None: the data set gives whole batches itself."""
    is_batching = batch_size is not None
    return DataLoader(
        dataset,
        batch_size,
        collate_fn=collate if is_batching else _as_it_is,
        drop_last=drop_last and is_batching,
        **options,
    )


def _index_batches(
    dataset: Dataset[Any],
    batch_size: int | None,
    is_training: bool,
    shuffle: bool,
    drop_last: bool,
    sampler: SamplerFactory | None,
    batch_sampler: SamplerFactory | None,
) -> tuple[Sampler[list[int]], torch.Generator]:
    """What gives the indices of each batch, and the generator that it draws from."""
    generator = torch.Generator()
    sources = {"data_source": dataset, "dataset": dataset, "generator": generator, "batch_size": batch_size}
    if is_training and batch_sampler:
        return batch_sampler(**sources), generator
    if batch_size is None:
        raise ConfigError("data_loader.batch_size: missing. Write how many samples make a batch.")
    indices: Sampler[int]
    if is_training and sampler:
        indices = sampler(**sources)
    elif is_training and shuffle and len(dataset):  # type: ignore[arg-type]
        indices = RandomSampler(dataset, generator=generator)  # type: ignore[arg-type]
    else:
        indices = SequentialSampler(dataset)  # type: ignore[arg-type]
    return BatchSampler(indices, batch_size, drop_last and is_training), generator


class Batches:
    """Passes over a split. A pass of training batches is a function of (seed, pass); other splits repeat one pass.

    Between batches, `state_dict` is the position; after `load_state_dict` the next `epoch` goes on from there, without
    loading what was passed over (iterable data sets, which know no positions, are read again up to it).
    """

    def __init__(self, loader: DataLoader[Any], order: Order | None, seed: str, advances: bool):
        self._loader = loader
        self._order = order
        self._seed = seed
        self._advances = advances
        self._passes = self._taken = 0
        self._iterator: Iterator[Any] | None = None

    def steps_per_pass(self) -> int | None:
        return None if self._order is None else len(self._order)

    def epoch(self, steps: int | None = None) -> Iterator[Any]:
        """The next `steps` batches, into the next passes where need be; or what is left of a pass.

        Raises:
            ConfigError: a whole pass gave no batch.
        """
        count = 0
        while steps is None or count < steps:
            if self._iterator is None:
                self._iterator = self._open_pass()
            for batch in self._iterator:
                self._taken += 1
                count += 1
                yield batch
                if count == steps:
                    return
            if self._taken == 0 and self._advances:
                raise ConfigError("dataset: the training set gave no batch.")
            self._passes += 1 if self._advances else 0
            self._taken, self._iterator = 0, None
            if steps is None:
                return

    def state_dict(self) -> dict[str, int]:
        return {"passes": self._passes, "taken": self._taken}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._passes, self._taken = state["passes"], state["taken"]
        self._iterator = None

    def _open_pass(self) -> Iterator[Any]:
        if self._order is not None:
            self._order.start(self._passes, self._taken)
            return iter(self._loader)
        pass_seed, dataset = f"{self._seed}/{self._passes}", self._loader.dataset
        self._loader.generator.manual_seed(derived_seed(pass_seed))  # the workers' seeds come from it
        if hasattr(dataset, "set_epoch"):  # torch's word for "the next pass"
            dataset.set_epoch(self._passes)
        iterator = iter(self._loader)
        if self._loader.num_workers == 0:
            iterator = isolated(iterator, pass_seed)
        if self._taken:
            log.info("Reading %d batches again to reach the one where the run stopped.", self._taken)
        for _ in range(self._taken):
            next(iterator)
        return iterator


def _check(
    batch_size: int | None,
    num_workers: int,
    sampler: SamplerFactory | None,
    batch_sampler: SamplerFactory | None,
    shuffle: bool,
    drop_last: bool,
) -> None:
    mistakes = []
    for name, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not (is_whole and value >= least) and not (name == "batch_size" and value is None):  # type: ignore[operator]
            mistakes.append(f"data_loader.{name}: found {value!r}. Write a whole number of at least {least}.")
    for name, value in (("shuffle", shuffle), ("drop_last", drop_last)):
        if not isinstance(value, bool):
            mistakes.append(f"data_loader.{name}: found {value!r}. Write true or false.")
    for name, value in (("sampler", sampler), ("batch_sampler", batch_sampler)):
        if value is not None and not callable(value):
            mistakes.append(f'data_loader.{name}: found {value!r}. Write {{"type": NAME, "args": {{...}}}}.')
    if sampler and batch_sampler:
        mistakes.append("data_loader: sampler and batch_sampler exclude each other.")
    if mistakes:
        raise ConfigError(*mistakes)


def _as_it_is(batch: Any) -> Any:
    return batch
