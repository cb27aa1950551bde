"""What the parts of the run use of a trainer, so that they need not import it."""

from typing import Any, Protocol

from base.epoch_so_far import EpochSoFar
from base.finite import FiniteWatch
from base.monitor import Monitor
from base.run import Run
from logger.metrics import Metrics
from utils.checkpoints.checkpoint import Stateful


class TrainerLike(Protocol):
    """`BaseTrainer`, seen from the parts that it calls."""

    run: Run
    metrics: Metrics
    monitor: Monitor
    watch: FiniteWatch
    epoch: int
    step: int
    samples: int
    so_far: EpochSoFar | None

    @property
    def epochs_done(self) -> int: ...

    def stateful(self) -> dict[str, Stateful]: ...

    def parts(self, kind: type) -> dict[str, Any]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def begin_within_epoch(self, state: dict[str, Any]) -> None: ...
