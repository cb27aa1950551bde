"""The run around the step: epochs, phases, means, logging, checkpoints, early stop."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from base.checkpoints import Checkpoints
from base.epoch_so_far import EpochSoFar, epoch_so_far
from base.finite import FiniteWatch, NonFinite
from base.lr_schedule import LRSchedule, learning_rates
from base.monitor import Monitor
from base.run import Run
from base.state import give_state, state_alone, state_of
from base.steps import result_of
from logger.means import RunningMeans, StepResult, as_number, joint_means
from logger.metrics import scalars_and_matrices
from logger.names import checked_values
from logger.progress import Progress
from logger.tables import VALID, EpochTable
from logger.writers import Writers
from utils.checkpoints.checkpoint import Stateful, load_into
from utils.distributed.processes import LostRank, world_size
from utils.distributed.signals import StopSignals
from utils.errors import BatchError, RunError, Stopped
from utils.seed import seed_own

log = logging.getLogger(__name__)


class BaseTrainer(ABC):
    """A subclass says what one step does; everything around it is here, and final.

    Call order: the constructor, `load_state_dict` to resume, `train`. `evaluate` alone scores a split.
    """

    def __init__(self, run: Run):
        options = run.options
        run.devices.prepare(options.matmul_precision)
        self.run = run
        self.metrics = run.metrics
        self.monitor = Monitor(options.monitor, options.min_delta, options.early_stop)
        self.writers = Writers()
        self.watch = FiniteWatch(run.metrics.functions, stops=options.on_non_finite == "stop")
        self.epoch = self.step = 0  # finished ones; inside an epoch, its own number
        self.samples = 0  # in the batch of a step, as the loader counts them: this process's part
        self.is_rehearsal = False  # whether a step is one before the run, whose effects are taken back
        self.so_far: EpochSoFar | None = None  # of the epoch under way

    # ---- yours ----

    @abstractmethod
    def train_step(self, batch: Any) -> StepResult:
        """One whole step: zero_grad, forward, loss, backward, step."""

    @abstractmethod
    def valid_step(self, batch: Any) -> StepResult:
        """Score one batch. Modules are in eval mode; there are no gradients. Random numbers differ by epoch."""

    @abstractmethod
    def stateful(self) -> dict[str, Stateful]:
        """What survives a restart, by its key in the checkpoint; `model` is the module that others load. For scoring
        alone, the modules are loaded."""

    def on_epoch_end(self, values: dict[str, float]) -> None:  # noqa: B027 - optional
        """After both phases, with the epoch's values, before they are logged; may add some to be logged, too."""

    # ---- the run ----

    @final
    def wrap(self, module: nn.Module) -> nn.Module:
        """What a step calls in the module's place: the same, or spread over devices."""
        return self.run.devices.wrap(module)

    @final
    def train(self, checkpoints: Checkpoints, writers: Writers) -> None:
        """Train from where the run is to the last epoch, or until patience is over.

        Raises:
            Stopped: a signal asked for it; the run is saved.
            RunError: it cannot go on; the message says why.
        """
        self._checkpoints, self.writers, table = checkpoints, writers, EpochTable()
        self._values: dict[str, Any] = {}  # of the last epoch
        self._is_saved = True
        self.watch.note_buffers(self.parts(nn.Module))
        try:
            with StopSignals():
                try:
                    while not self.is_finished:
                        start = time.perf_counter()
                        progress = self._train_phase()
                        for line in table.lines(*self._end_epoch(progress, start)):
                            log.info(line)
                except (Stopped, BatchError) as stop:
                    checkpoints.interrupt(self._good_state, self.step, stop)
                    raise
                except Exception as error:
                    if isinstance(error, LostRank) if self.so_far is None else self.so_far.trained is not None:
                        checkpoints.rescue(partial(state_alone, self), self.epoch)
                    raise
        except NonFinite as failure:
            checkpoints.record(failure)
            raise
        finally:
            checkpoints.close()
            self.writers.close(self._values)
        if not self._is_saved:
            raise RunError(f"The last epoch is not saved in {checkpoints.run_dir}.")
        log.info("Finished: %s", self.why_finished())

    @final
    def parts(self, kind: type) -> dict[str, Any]:
        """Those in `stateful` of a kind: what is listed there is also put in eval mode, scheduled and logged."""
        return {name: part for name, part in self.stateful().items() if isinstance(part, kind)}

    @final
    def set_training(self, is_training: bool) -> None:
        for module in self.parts(nn.Module).values():
            module.train(is_training)

    @final
    @property
    def is_finished(self) -> bool:
        return self.so_far is None and (self.epoch >= self.run.options.epochs or self.monitor.is_patience_over)

    @final
    @property
    def epochs_done(self) -> int:
        return self.epoch - (self.so_far is not None)

    @final
    @property
    def position(self) -> str:
        """Where the run is, in words."""
        return f"step {self.step}, within epoch {self.epoch}" if self.so_far else f"epoch {self.epoch}"

    @final
    def why_finished(self) -> str:
        """Where the run ended, its best epoch, and what would make it go on."""
        return self.monitor.why_over(self.epoch, self.run.options.epochs)

    @final
    def evaluate(self, split: str, steps: int | None = None) -> dict[str, Any]:
        """The means over a split, or its first `steps` batches; what metric objects say: numbers, or matrices."""
        self.set_training(False)
        self.metrics.reset()
        means, batches = RunningMeans(), self.run.batches[split]
        total = min(filter(None, (steps, batches.steps_per_pass())), default=None)
        progress = Progress(batches.epoch(steps), total, split)
        with torch.no_grad():
            for batch in progress:
                means.update(self.result_of(self.valid_step, batch, batches.samples))
                self.metrics.end_batch(batches.samples)
                progress.update(batches.samples * world_size())
        return means.compute() | scalars_and_matrices(self.metrics.compute())

    @final
    def state_dict(self) -> dict[str, Any]:
        """A checkpoint without its config: plain tensors and plain values."""
        return state_of(self)

    @final
    def load_state_dict(self, state: dict[str, Any], source: str = "checkpoint", names: Iterable[str] = ()) -> None:
        """Go on from a checkpoint; with `names`, take only these parts from it, as for scoring.

        Raises:
            CheckpointError: a part is missing, or does not fit.
        """
        give_state(self, state, source, list(names))

    @final
    def begin_within_epoch(self, state: dict[str, Any]) -> None:
        """Go on with the epoch that `EpochSoFar.state_dict` told of."""
        self.epoch, self.so_far = self.epoch + 1, epoch_so_far(state)

    @final
    def result_of(self, step: Callable[[Any], StepResult], batch: Any, samples: int | None = None) -> StepResult:
        """Give a batch of so many samples, on the run's device, to `train_step` or `valid_step`."""
        return result_of(self, step, batch, samples)

    # ---- its parts, in calling order ----

    def _train_phase(self) -> Progress:
        """The training phase of the next epoch, or the rest of it where the run was stopped within one."""
        if self.so_far is None:
            self.epoch += 1
            seed_own(self.run.seed, "epoch", self.epoch)
            self.so_far = EpochSoFar(self.learning_rates())
        so_far = self.so_far
        self.set_training(True)
        self.run.devices.parallel.check_unchanged(vars(self).values())
        self.metrics.reset()
        if so_far.metrics:
            load = partial(self.metrics.load_state_dict, device=self.run.devices.main)
            load_into("metrics", load, so_far.metrics, "checkpoint")
        options, batches = self.run.options, self.run.batches["train"]
        total, done = options.epoch_steps or batches.steps_per_pass(), so_far.steps
        left = batches.epoch(options.epoch_steps and options.epoch_steps - done) if so_far.trained is None else ()
        progress = Progress(left, total, f"epoch {self.epoch}/{options.epochs}", done)
        schedules = self.parts(LRSchedule).values()
        for batch in progress:
            rates = self.learning_rates()
            result = result_of(self, self.train_step, batch, batches.samples)
            self.step += 1
            so_far.steps += 1
            when = {"step": self.step, "epoch": self.epoch, "batch": so_far.steps, "learning_rates": rates}
            names, values = list(result.means), so_far.means.update(result)
            self.watch.update(when, names, values)
            progress.update(batches.samples * world_size())
            if self.step % options.log_steps == 0:
                self._log_step(names, values, result, progress)
            for schedule in schedules:
                schedule.on_step()
            self._checkpoints.end_step(self._good_state, self.step)
        self.watch.check()
        if so_far.trained is None:
            so_far.trained = so_far.means.compute() | scalars_and_matrices(self.metrics.compute())
        return progress

    def _end_epoch(self, progress: Progress, start: float) -> tuple[dict[str, Any], bool]:
        """Validate, log and save. Returns the values of the epoch, and whether it is the best one."""
        self._values, best_before = self._values_of_epoch(progress, start), self.monitor.best_values
        is_best = self.monitor.update(self._values)
        for schedule in self.parts(LRSchedule).values():
            schedule.on_epoch_end(self._values.get(self.monitor.name))
        self._checkpoints.check_lock()
        self.writers.epoch(self._values)
        self.so_far = None
        self._is_saved = self._checkpoints.end_epoch(self._good_state, self.epoch, is_best, self.is_finished)
        if not self._is_saved:
            self.monitor.best_values = best_before  # a best that is not on the disk is none
        return self._values, is_best

    def _values_of_epoch(self, progress: Progress, start: float) -> dict[str, Any]:
        assert self.so_far is not None and self.so_far.trained is not None, "the training phase is over"
        self.run.batches["train"].advise(progress.wait_seconds, progress.seconds)
        seed_own(self.run.seed, "after training", self.epoch)  # so that a stop from here on resumes here
        self.run.devices.share_buffers(self.parts(nn.Module).values())
        options = self.run.options
        validated = self.evaluate("valid", options.valid_steps) if "valid" in self.run.batches else {}
        scalars = self.writers.matrices_in(self.so_far.trained, "train", self.step)
        scalars |= {
            VALID + name: value for name, value in self.writers.matrices_in(validated, "valid", self.step).items()
        }
        values = {"epoch": self.epoch, "step": self.step} | self.so_far.learning_rates | scalars
        own = dict(values)
        self.on_epoch_end(values)
        values = checked_values(f"{type(self).__name__}.on_epoch_end", own, values)
        if options.histogram_period and self.epoch % options.histogram_period == 0:
            self.writers.histograms(self.parts(nn.Module), self.step)
        clock = {"items_per_second": progress.items_per_second, "data_wait_share": progress.data_wait_share}
        return values | {"seconds": time.perf_counter() - start} | clock

    def _good_state(self) -> dict[str, Any]:
        """What may be saved: nothing that is not finite."""
        self.watch.check()
        self.watch.check_parameters(self.parts(nn.Module), {"step": self.step, "epoch": self.epoch})
        return self.state_dict()

    def _log_step(self, names: list[str], values: Tensor, result: StepResult, progress: Progress) -> None:
        counts = [as_number(count, "count") for count in result.counts()]
        parts = self.watch.check((values.tolist(), counts))  # waits for the device; no other step does
        means, rates = dict(zip(names, joint_means(parts), strict=True)), self.learning_rates()
        progress.show(**{names[0]: means[names[0]]}, **rates)
        self.writers.step(means | rates, self.step)

    @final
    def learning_rates(self) -> dict[str, float]:
        """Those of every group of every optimizer, by name."""
        return learning_rates(self.parts(Optimizer))
