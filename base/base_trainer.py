"""The run around the step: epochs, phases, means, logging, checkpoints, early stop."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from base.checkpoints import Checkpoints
from base.lr_schedule import LRSchedule
from base.monitor import Monitor
from base.run import Run
from logger.means import RunningMeans, StepResult
from logger.metrics import scalars_and_matrices
from logger.progress import Progress
from logger.tables import VALID, EpochTable, value_table
from logger.writers import Writers
from utils.checkpoint import FORMAT, Stateful, load_into
from utils.seed import rng_state, seed_everything, set_rng_state

log = logging.getLogger(__name__)


class BaseTrainer(ABC):
    """A subclass says what one step does; everything around it is here, and final.

    Call order: the constructor, `load_state_dict` to resume, `train`. `evaluate` alone scores a split.
    """

    def __init__(self, run: Run):
        options = run.options
        self.run = run
        self.metrics = run.metrics
        self.monitor = Monitor(options.monitor, options.min_delta, options.early_stop)
        self.writers = Writers()
        self.epoch = self.step = 0  # finished ones; inside an epoch, its own number

    # ---- yours ----

    @abstractmethod
    def train_step(self, batch: Any) -> StepResult:
        """One whole step: zero_grad, forward, loss, backward, step."""

    @abstractmethod
    def valid_step(self, batch: Any) -> StepResult:
        """Score one batch. Modules are in eval mode; there are no gradients."""

    @abstractmethod
    def stateful(self) -> dict[str, Stateful]:
        """What survives a restart, by its key in the checkpoint; `model` is the module that others load."""

    def on_epoch_end(self, values: dict[str, float]) -> None:  # noqa: B027 - optional
        """After both phases, with the epoch's values, before they are logged; may add some to be logged, too."""

    # ---- the run ----

    @final
    def wrap(self, module: nn.Module) -> nn.Module:
        """What a step calls in the module's place: the same, or spread over devices."""
        return self.run.devices.wrap(module)

    @final
    def train(self, checkpoints: Checkpoints, writers: Writers) -> None:
        """Train from the epoch reached so far to the last one, or until patience is over."""
        self.writers, table, values, is_saved = writers, EpochTable(), {}, True
        try:
            while not self.is_finished:
                values, best_before = self._train_one_epoch(), self.monitor.best_values
                is_best = self.monitor.update(values)
                self._step_schedules(values)
                self.writers.epoch(values)
                self.writers.flush()
                for line in table.lines(values, is_best):
                    log.info(line)
                is_saved = checkpoints.save(self.state_dict, self.epoch, is_best, self.is_finished)
                if not is_saved:
                    self.monitor.best_values = best_before  # a best that is not on the disk is none
        finally:
            self.writers.close(values)
        if not is_saved:
            raise SystemExit("The last epoch is not saved.")
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
        return self.epoch >= self.run.options.epochs or self.monitor.is_patience_over

    @final
    def why_finished(self) -> str:
        """Where the run ended, its best epoch, and what would make it go on."""
        end, option = f"epoch {self.epoch} of {self.run.options.epochs}", "trainer.epochs=N"
        if self.monitor.is_patience_over:
            end += f", {self.monitor.epochs_without_improvement} in a row without a better {self.monitor.name}"
            option = "trainer.early_stop=N"
        best = value_table(self.monitor.best_values)
        return f"{end}. To go on: python train.py -r RUN --set {option}" + (f"\nBest epoch:\n{best}" if best else "")

    @final
    def evaluate(self, split: str) -> dict[str, Any]:
        """The means over a split, and what the metric objects say: numbers, or tensors where they are no scalars."""
        self.set_training(False)
        self.metrics.reset()
        means = RunningMeans()
        batches = self.run.batches[split]
        progress = Progress(batches.epoch(), batches.steps_per_pass(), split)
        with torch.no_grad():
            for batch in progress:
                result = self.valid_step(self.run.devices.move(batch))
                means.update(result)
                progress.update(result.count)
        return means.compute() | self._metric_values()

    @final
    def state_dict(self) -> dict[str, Any]:
        """A checkpoint without its config: plain tensors and plain values."""
        return {
            "format": FORMAT,
            "epoch": self.epoch,
            "step": self.step,
            **{name: part.state_dict() for name, part in self.stateful().items()},
            "monitor": self.monitor.state_dict(),
            "batches": self.run.batches["train"].state_dict(),
            "rng": rng_state(),
        }

    @final
    def load_state_dict(self, state: dict[str, Any], source: str = "checkpoint", names: Iterable[str] = ()) -> None:
        """Go on from a checkpoint; with `names`, take only these parts from it, as for scoring.

        Raises:
            CheckpointError: a part is missing, or does not fit.
        """
        for name, part in self.stateful().items():
            if not names or name in names:
                load_into(name, part, state.get(name, {}), source)
        if not names:
            self.epoch, self.step = state["epoch"], state["step"]
            self.monitor.load_state_dict(state["monitor"])
            self.run.batches["train"].load_state_dict(state["batches"])
            set_rng_state(state["rng"])

    # ---- its parts, in calling order ----

    def _train_one_epoch(self) -> dict[str, Any]:
        start = time.perf_counter()
        self.epoch += 1
        seed_everything(self.run.seed, "epoch", self.epoch)
        learning_rates = self.learning_rates()
        trained, progress = self._train_phase()
        validated = self.evaluate("valid") if "valid" in self.run.batches else {}
        scalars = self._write_matrices(trained, "train") | {
            VALID + name: value for name, value in self._write_matrices(validated, "valid").items()
        }
        values = {"epoch": self.epoch, "step": self.step} | learning_rates | scalars
        self.on_epoch_end(values)
        period = self.run.options.histogram_period
        if period and self.epoch % period == 0:
            self.writers.histograms(self.parts(nn.Module), self.step)
        clock = {"items_per_second": progress.items_per_second, "data_wait_share": progress.data_wait_share}
        return values | {"seconds": time.perf_counter() - start} | clock

    def _train_phase(self) -> tuple[dict[str, Any], Progress]:
        self.set_training(True)
        self.metrics.reset()
        means, options, batches = RunningMeans(), self.run.options, self.run.batches["train"]
        total = options.epoch_steps or batches.steps_per_pass()
        progress = Progress(batches.epoch(options.epoch_steps), total, f"epoch {self.epoch}/{options.epochs}")
        schedules = self.parts(LRSchedule).values()
        for batch in progress:
            result = self.train_step(self.run.devices.move(batch))
            self.step += 1
            means.update(result)
            progress.update(result.count)
            if self.step % options.log_steps == 0:
                self._log_step(result, progress)
            for schedule in schedules:
                schedule.on_step()
        return means.compute() | self._metric_values(), progress

    def _log_step(self, result: StepResult, progress: Progress) -> None:
        values = {name: value.item() for name, value in result.means.items()}  # waits for the device
        rates = self.learning_rates()
        first_mean = next(iter(values))
        progress.show(**{first_mean: values[first_mean]}, **rates)
        self.writers.step(values | rates, self.step)

    def _metric_values(self) -> dict[str, Any]:
        return scalars_and_matrices(self.metrics.compute())

    def _write_matrices(self, values: dict[str, Any], phase: str) -> dict[str, float]:
        for name, value in values.items():
            if isinstance(value, Tensor) and value.dim() == 2:
                self.writers.matrix(f"{name}/{phase}", value, self.step)
        return {name: value for name, value in values.items() if not isinstance(value, Tensor)}

    def _step_schedules(self, values: dict[str, float]) -> None:
        for schedule in self.parts(LRSchedule).values():
            schedule.on_epoch_end(values[self.monitor.name] if self.monitor.is_on else None)

    @final
    def learning_rates(self) -> dict[str, float]:
        """`lr` for the first group of `optimizer`; `lr_NAME`, `lr_NAME_1` for other optimizers and groups."""
        rates = {}
        for name, optimizer in self.parts(Optimizer).items():
            for i, group in enumerate(optimizer.param_groups):
                parts = ["lr", *([name] if name != "optimizer" else []), *([str(i)] if i else [])]
                rates["_".join(parts)] = float(group["lr"])
        return rates
