"""Reads streams that share themselves out in all the ways that there are; what each process read, as JSON on the last
line.

torchrun --nproc_per_node=2 tests/numbers_on_ranks.py
"""

import json
import sys
from copy import copy
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch.utils.data import IterableDataset, get_worker_info

from utils.batches.loaders import make_batches
from utils.config.options import LoaderOptions
from utils.distributed.processes import connected, gather, is_first

WORKERS = (1, 2, 3)


class Plain(IterableDataset):
    """The numbers; knows nothing of workers."""

    def __init__(self, count):
        self.count = count
        self.first, self.by = 0, 1

    def __iter__(self):
        yield from (torch.tensor(number) for number in range(self.first, self.count, self.by))


class Asking(Plain):
    """A share for each worker."""

    def __iter__(self):
        info = get_worker_info()
        number, workers = (info.id, info.num_workers) if info else (0, 1)
        yield from (torch.tensor(number) for number in range(self.count)[self.first :: self.by][number::workers])


class AskingAtOnce(Asking):
    """Asks before its iterator is used."""

    def __iter__(self):
        return iter([*super().__iter__()])


class Wrapping(Plain):
    """The stream of a library inside asks."""

    def __iter__(self):
        yield from Asking(self.count)


class Sharded(Plain):
    """A share for each reader."""

    def shard(self, num_shards, index):
        share = copy(self)
        share.first, share.by = self.first + index * self.by, self.by * num_shards
        return share


class ShardedInPlace(Sharded):
    """Keeps its share itself."""

    def shard(self, num_shards, index):
        self.__dict__ = super().shard(num_shards, index).__dict__
        return self


class ShardedAndAsking(Sharded, Asking):
    """A share for each process by `shard`, and for each worker by itself."""


KINDS = (Plain, Asking, AskingAtOnce, Wrapping, Sharded, ShardedInPlace, ShardedAndAsking)


def read(dataset, workers):
    """The batches of a pass."""
    options = LoaderOptions(batch_size=4, num_workers=workers)
    return [batch.tolist() for batch in make_batches(dataset, "valid", 0, options).epoch()]


def main():
    found = {}
    with connected():
        for kind in KINDS:
            for workers in WORKERS:
                own = [number for batch in read(kind(37), workers) for number in batch]
                found[f"{kind.__name__}, {workers} workers"] = gather(own)
    if is_first():
        print(json.dumps(found))


if __name__ == "__main__":
    main()
