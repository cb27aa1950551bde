"""What a loader does where the config leaves it to the machine. The figures behind it are in docs/performance.md."""

from dataclasses import replace

import torch
from torch.utils.data import Dataset, IterableDataset

from utils.batches.methods import gives_batches
from utils.config.options import LoaderOptions
from utils.distributed.cpu import available_cores

MOST_WORKERS = 4  # for one GPU; what takes more than that is for its user to say


def fitted(options: LoaderOptions, dataset: Dataset, device: torch.device) -> LoaderOptions:
    """The options with every null decided.

    On the CPU, no workers: they take the cores from the model. Beside a GPU, as many as there are cores to spare, where
    samples come one at a time: they make batches while it computes, and live on from epoch to epoch, since starting
    them costs more than a small epoch. Whole batches are made sooner than a worker hands them over.
    A stream has no workers unless the config asks for them: where it shares itself out among them, its order depends on
    how many there are.
    """
    is_stream, is_gpu = isinstance(dataset, IterableDataset), device.type == "cuda"
    is_by_sample = not is_stream and not gives_batches(dataset)
    workers, is_pinned, persist = options.num_workers, options.pin_memory, options.persistent_workers
    if workers is None:
        workers = min(MOST_WORKERS, available_cores() - 1) if is_gpu and is_by_sample else 0
        if workers == 0:  # what is said about workers is for machines that get some
            options, persist = replace(options, prefetch_factor=None, timeout=None), False
    return replace(
        options,
        num_workers=workers,
        pin_memory=is_gpu if is_pinned is None else is_pinned,
        persistent_workers=workers > 0 and not is_stream if persist is None else persist,
    )
