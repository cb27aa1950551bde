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
import model.model
import train
import trainer.trainer
from data_loader.datasets import Digits
from utils.distributed.processes import is_restarted, rank
from utils.exit_codes import exit_code_of


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


class WithSpare(model.model.LeNet):
    """A layer that one process uses, and the other one does not; in a later step, if that is asked for."""

    def __init__(self, num_classes: int, from_step: int = 0, users: int = 1):
        super().__init__(num_classes, channels=(4, 8), hidden=16)
        self.spare, self.from_step, self.users, self.steps = torch.nn.Linear(64, 10), from_step, users, 0

    def forward(self, images):
        self.steps += self.training
        is_used = rank() < self.users or (self.training and self.steps <= self.from_step)
        return super().forward(images) + (self.spare(images.flatten(1)) if is_used else 0)


class Thawing(trainer.trainer.Trainer):
    """Thaws a layer after the first epoch; or fails there, on one process or on all."""

    def __init__(self, fails_at: list[int] | None = None, **parts):
        super().__init__(**parts)
        self.fails_at = fails_at
        if fails_at is None:
            self.model.fc1.requires_grad_(False)
            self.forward = self.wrap(self.model)

    def on_epoch_end(self, values):
        if self.fails_at is None:
            self.model.fc1.requires_grad_(True)
        elif rank() in self.fails_at and os.environ.get("FAULT") != "off":
            raise KeyError("no such figure")


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
    (trainer.trainer, Thawing),
    (model.model, WithSpare),
    (data_loader.datasets, BadSample),
    (data_loader.datasets, FewToValidate),
    (data_loader.datasets, Stream),
):
    cls.__module__ = module.__name__
    setattr(module, cls.__name__, cls)

if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(exit_code_of(train.main))
