"""What to do where the model waits for its batches."""

import logging
from typing import Any

from torch.utils.data import IterableDataset

from utils.batches.methods import gives_batches

log = logging.getLogger(__name__)
MUCH, AT_LEAST_SECONDS = 0.2, 1.0  # of a pass's time; of waiting in it: shorter passes are not worth a word


def advise(dataset: Any, workers: int, wait_seconds: float, seconds: float) -> bool:
    """Say what would make the batches of a pass come faster; whether it waited so long that there was something to say.

    `workers`: processes that load batches now.
    """
    if wait_seconds < max(MUCH * seconds, AT_LEAST_SECONDS):
        return False
    name, advice = type(dataset).__name__, []
    if not isinstance(dataset, IterableDataset) and not gives_batches(dataset):
        advice.append(
            f"{name} gives one sample at a time: a method __getitems__(indices) that returns a whole batch costs a "
            "fraction (UInt8Images in data_loader/datasets.py has one)."
        )
    if isinstance(dataset, IterableDataset) and not hasattr(dataset, "shard"):
        advice.append(
            f"Workers help {name} only if it has shard(num_shards, index) or asks get_worker_info(): else each worker "
            "reads all of it."
        )
    more = max(2, 2 * workers)
    advice.append(
        "Do what is costly and always the same in it once, before the training. "
        f"On a machine with cores to spare, try --set data_loader.num_workers={more}."
    )
    log.warning("data: %.0f %% of the training's time was waiting. %s", 100 * wait_seconds / seconds, " ".join(advice))
    return True
