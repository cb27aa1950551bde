"""From a data set to its batches, pass after pass, each the same whenever and wherever it is made again."""

import logging
from collections.abc import Mapping
from functools import partial
from typing import Any

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

from utils.batches.batches import Batches, counted
from utils.batches.defaults import fitted
from utils.batches.methods import check_length, collate_of, length_of, slow_path_note
from utils.batches.seeded_batches import Fetcher, Order
from utils.batches.streams import Reader
from utils.batches.workers import POLL_SECONDS, start_worker
from utils.config.options import LoaderOptions
from utils.distributed.cpu import available_cores
from utils.distributed.processes import world_size
from utils.errors import ConfigError

log = logging.getLogger(__name__)
_CPU = torch.device("cpu")
WORKER_SECONDS = 600.0  # that a worker may take for a batch


def make_batches_of_splits(
    datasets: Mapping[str, Dataset[Any]], seed: int, options: LoaderOptions, device: torch.device
) -> dict[str, Batches]:
    """The batches of each split that has samples, for a model on `device`; "train" must have some."""
    if (options.num_workers or 0) > available_cores():
        message = "data_loader.num_workers: %d are more than the %d cores of this process, and may be slower. Try %d."
        log.warning(message, options.num_workers, available_cores(), available_cores())
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
) -> Batches:
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


def _indexed_batches(dataset: Any, split: str, seed: str, options: LoaderOptions) -> Batches:
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


def _iterable_batches(dataset: Any, split: str, seed: str, options: LoaderOptions) -> Batches:
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
        collate_fn=partial(counted, reader.collate) if is_batching else _as_it_is,
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
        "worker_init_fn": start_worker,
        "multiprocessing_context": options.multiprocessing_context,
        "generator": torch.Generator(),  # else the workers' seeds are drawn from the global one, now and then
    }


def _seconds(options: LoaderOptions) -> float:
    return WORKER_SECONDS if options.timeout is None else options.timeout


def _as_it_is(batch: Any) -> Any:
    return batch
