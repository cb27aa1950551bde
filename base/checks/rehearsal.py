"""A rehearsal: steps before the run, or beside it, that leave no trace in the run."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import nn
from torch.optim import Optimizer

from base.run import Run
from logger.writers import Writers
from utils.distributed.shards import is_sharded, to_shards
from utils.modules.step_option import StepOption
from utils.seed import rng_state, set_rng_state
from utils.snapshot import Snapshot

if TYPE_CHECKING:
    from base.base_trainer import BaseTrainer


class TrainerSnapshot:
    """All that a trainer's steps can change: its parts and attributes, the metrics, the random generators. `put_back`
    may be called repeatedly. What a step writes into files stays: it can ask for `trainer.is_rehearsal`."""

    def __init__(self, trainer: "BaseTrainer"):
        self._trainer = trainer
        self._to_shards()
        roots = [vars(trainer), trainer, trainer.stateful(), trainer.metrics]
        # One by one, because a snapshot does not look into large lists and dicts.
        for module in trainer.parts(nn.Module).values():
            roots += [*module.parameters(), *module.buffers()]
            roots += [] if is_sharded(module) else module.modules()  # FSDP swaps the parameters of its modules itself
        for optimizer in trainer.parts(Optimizer).values():
            roots += optimizer.state.values()
        self._snapshot = Snapshot(*roots, opaque=(Run, Writers, StepOption))
        self._rng = rng_state()

    def put_back(self) -> None:
        self._to_shards()
        self._snapshot.put_back()
        self.put_back_generators()

    def put_back_generators(self) -> None:
        set_rng_state(self._rng)

    @property
    def nbytes(self) -> int:
        """What it keeps, as far as it lies on the run's device."""
        device = self._trainer.run.devices.main
        return sum(tensor.nbytes for tensor in self._snapshot.tensors if tensor.device == device)

    def _to_shards(self) -> None:
        for module in self._trainer.parts(nn.Module).values():
            to_shards(module)


@contextmanager
def rehearsal(trainer: "BaseTrainer") -> Iterator[TrainerSnapshot]:
    """Steps in the block are a rehearsal: nothing is written, and behind the block all is as it was."""
    snapshot = TrainerSnapshot(trainer)
    trainer.is_rehearsal = True
    try:
        yield snapshot
    finally:
        snapshot.put_back()
        trainer.is_rehearsal = False
