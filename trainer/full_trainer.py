"""The supervised step with what large models need: mixed precision, micro-batches, moving averages of the weights."""

from functools import partial
from typing import Any

from torch import nn

from base.base_trainer import StepResult
from base.run import Run
from logger.means import mean_of_parts
from trainer.trainer import Trainer
from utils.batch import batch_size
from utils.checkpoints.checkpoint import Stateful
from utils.modules.activations import checkpoint_activations
from utils.modules.averaging import WeightAverage
from utils.modules.gradients import clip_gradients
from utils.modules.micro_batches import MicroBatches, MicroBatchSize, fitting_memory
from utils.modules.precision import Amp, Precision


class FullTrainer(Trainer):
    """`Trainer` with these options; without any of them, it computes the same numbers.

    `micro_batch_size`: a batch is computed in parts of so many samples (gradient accumulation); "auto" finds out how
    many fit into memory. `amp`: automatic mixed precision, "bf16" or "fp16". `ema_decay`: what is scored and saved as
    the model is an exponential moving average of its weights. `compile`: with `torch.compile`.
    `activation_checkpointing`: patterns of modules, by name or class, whose activations are not kept for the backward
    pass but computed again, to save memory.
    """

    def __init__(
        self,
        run: Run,
        model: nn.Module,
        micro_batch_size: MicroBatchSize = None,
        amp: Amp = "off",
        ema_decay: float | None = None,
        compile: bool = False,
        activation_checkpointing: str | list[str] | None = None,
        **parts: Any,
    ):
        self.ema = WeightAverage(model, ema_decay)
        checkpoint_activations(model, activation_checkpointing)
        if compile:
            model.compile()  # in place: names stay
        super().__init__(run=run, model=model, **parts)
        self.loss_fn.weighs_gradients = False  # the micro-batches do
        if self.ema.model is not model:
            self.scored = self.wrap(self.ema.model)
        exchanging = partial(run.devices.parallel.exchanging, self.forward)
        items = self.loss_fn.items
        self.micro_batches = MicroBatches(micro_batch_size, model, exchanging, items.over)
        self.precision = Precision(amp, run.devices.main)
        self.scaler = self.precision.scaler

    @fitting_memory
    def train_step(self, batch: tuple[Any, Any]) -> StepResult:
        self.optimizer.zero_grad()
        parts = []
        for inputs, targets in self.micro_batches(batch, self.samples):  # one, without micro_batch_size
            with self.precision.autocast():
                outputs = self.forward(inputs)
                loss = self.loss_fn(outputs, targets)
            self.scaler.scale(self.micro_batches.weighted(loss)).backward()
            parts.append({"loss": loss, **self.metrics(outputs, targets)})
        self.scaler.unscale_(self.optimizer)
        grad_norm = clip_gradients(self.model.parameters(), self.max_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.ema.update()
        means = mean_of_parts(parts, self.micro_batches.counts)
        return StepResult(means | self.precision.reported(grad_norm), sum(self.micro_batches.counts))

    def valid_step(self, batch: tuple[Any, Any]) -> StepResult:
        inputs, targets = batch
        with self.precision.autocast():
            outputs = self.scored(inputs)
            loss = self.loss_fn(outputs, targets)
        self.preview.keep(self.step, inputs, outputs, targets)
        return StepResult({"loss": loss, **self.metrics(outputs, targets)}, self.samples or batch_size(batch))

    def stateful(self) -> dict[str, Stateful]:
        parts = super().stateful() | {"scaler": self.scaler, "micro_batches": self.micro_batches}
        return parts | self.ema.modules()
