"""`train.py` with trainers and data sets that fail on purpose, on one of several processes."""

import os
import resource
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch.utils.data import IterableDataset

import data_loader.datasets
import train
import trainer.trainer
from data_loader.datasets import Digits
from utils.distributed import is_restarted, rank
from utils.errors import exit_code_of


class Faulty(trainer.trainer.Trainer):
    """At a step of the training (or of the validation) of one rank, something happens; every step takes its time."""

    def __init__(
        self, fault: str = "", at_rank: int = 1, at_step: int = 4, seconds: float = 0.0, in_validation=False, **parts
    ):
        super().__init__(**parts)
        self.fault, self.at, self.seconds, self.in_validation = fault, (at_rank, at_step), seconds, in_validation
        if os.environ.get("FAULT") == "off":
            self.fault = ""

    def train_step(self, batch):
        time.sleep(self.seconds)
        if not self.in_validation and (rank(), self.step + 1) == self.at and hasattr(self, "_checkpoints"):
            batch = self.happens(batch)
        return super().train_step(batch)

    def valid_step(self, batch):
        if self.in_validation and (rank(), self.step) == self.at and hasattr(self, "_checkpoints"):
            batch = self.happens(batch)
        return super().valid_step(batch)

    def happens(self, batch):
        if self.fault == "raise":
            raise KeyError("what rank 1 misses")
        if self.fault == "hang":
            time.sleep(1000)
        if self.fault == "full_disk":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
            return batch
        if self.fault == "nan":
            return batch[0] * float("nan"), batch[1]
        if self.fault and not is_restarted():
            os.kill(os.getpid(), getattr(signal, self.fault))
        return batch


class BadSample(Digits):
    """One training sample cannot be read."""

    def __getitems__(self, indices):
        if 700 in indices and len(self) > 1000:
            raise ValueError("an unreadable sample")
        return super().__getitems__(indices)


class FewToValidate(Digits):
    """One sample to validate on: fewer than there are processes."""

    def __len__(self):
        return 1 if len(self.images) == 179 else len(self.images)


class Stream(IterableDataset):
    """`counts`: samples of each rank."""

    def __init__(self, split, counts: list[int]):
        self.digits = Digits(split)
        self.counts = counts

    def shard(self, num_shards, index):
        end = min(index + num_shards * self.counts[index], len(self.digits))
        return [self.digits[i] for i in range(index, end, num_shards)]

    def __iter__(self):
        return iter(self.shard(1, 0))


for module, cls in (
    (trainer.trainer, Faulty),
    (data_loader.datasets, BadSample),
    (data_loader.datasets, FewToValidate),
    (data_loader.datasets, Stream),
):
    cls.__module__ = module.__name__
    setattr(module, cls.__name__, cls)

if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(exit_code_of(train.main))
