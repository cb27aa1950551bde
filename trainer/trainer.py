"""The supervised step. Start yours here: copy this class, change the step."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from base.base_trainer import BaseTrainer, StepResult
from base.loss_items import LossItems
from base.lr_schedule import LRSchedule
from base.run import Run
from trainer.activations import checkpoint_activations
from trainer.averaging import WeightAverage
from trainer.gradients import check_max_norm, clip_gradients
from trainer.micro_batches import MicroBatches, MicroBatchSize, fitting_memory, mean_of
from trainer.precision import Amp, Precision
from trainer.preview import Preview
from utils.batch import batch_size
from utils.checkpoints.checkpoint import Stateful


class Trainer(BaseTrainer):
    """Batches are (inputs, targets); the model maps inputs to outputs, the loss compares them with targets.

    Means are over samples; that of a loss of torch's over what it averages (weights of classes, labelled tokens). A
    loss of yours that averages over anything else wants a step of its own, with its own count.

    `max_grad_norm`: larger gradients are scaled down to this 2-norm. `micro_batch_size`: a batch is computed in parts
    of so many samples; "auto" finds out how many fit into memory. `amp`: "bf16" or "fp16". `ema_decay`: what is scored
    and saved as the model is a moving average of its weights. `compile`: by `torch.compile`.
    `activation_checkpointing`: patterns of modules, by name or class, that save memory for time.
    """

    def __init__(
        self,
        run: Run,
        model: nn.Module,
        loss_fn: Callable[[Any, Any], Tensor],
        optimizer: Optimizer,
        lr_scheduler: LRSchedule,
        max_grad_norm: float | None = None,
        micro_batch_size: MicroBatchSize = None,
        amp: Amp = "off",
        ema_decay: float | None = None,
        compile: bool = False,
        activation_checkpointing: str | list[str] | None = None,
    ):
        super().__init__(run)
        if isinstance(loss_fn, nn.Module) and any(True for _ in loss_fn.parameters()):
            raise ValueError("the loss has parameters, which this trainer would neither train nor save")
        self.model = model
        self.ema = WeightAverage(model, ema_decay)
        checkpoint_activations(model, activation_checkpointing)
        if compile:
            model.compile()  # in place: names stay
        self.forward = self.wrap(model)  # call this one; `model` stays bare, and so do its names in a checkpoint
        self.scored = self.forward if self.ema.model is model else self.wrap(self.ema.model)
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.max_grad_norm = check_max_norm(max_grad_norm)
        self.loss_items = LossItems(loss_fn, [batches.dataset for batches in run.batches.values()])
        self.loss_fn = self.loss_items.checked(loss_fn)
        self.micro_batches = MicroBatches(micro_batch_size, run, model, self.forward, self.loss_items)
        self.precision = Precision(amp, run.devices.main)
        self.scaler = self.precision.scaler
        self.preview = Preview()

    @fitting_memory
    def train_step(self, batch: tuple[Any, Any]) -> StepResult:
        self.optimizer.zero_grad()
        parts = []
        for inputs, targets in self.micro_batches(batch):  # one, the batch itself, where nothing else is said
            with self.precision.autocast():
                outputs = self.forward(inputs)
                loss = self.loss_fn(outputs, targets)
            self.scaler.scale(self.micro_batches.weighted(loss)).backward()
            parts.append((outputs, targets, loss))
        self.scaler.unscale_(self.optimizer)
        grad_norm = clip_gradients(self.model.parameters(), self.max_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.ema.update()
        counts = self.micro_batches.counts
        means = mean_of([self.scores(*part) for part in parts], counts)
        return StepResult(means | self.precision.reported(grad_norm), sum(counts))

    def valid_step(self, batch: tuple[Any, Any]) -> StepResult:
        inputs, targets = batch
        with self.precision.autocast():
            outputs = self.scored(inputs)
            loss = self.loss_fn(outputs, targets)
        self.preview.keep(self.step, inputs, outputs, targets)
        return StepResult(self.scores(outputs, targets, loss), self.samples or batch_size(batch))

    def scores(self, outputs: Any, targets: Any, loss: Tensor) -> dict[str, Tensor]:
        return {"loss": self.loss_items.noted_on(loss, targets), **self.metrics(outputs, targets)}

    def stateful(self) -> dict[str, Stateful]:
        parts: dict[str, Stateful] = {"optimizer": self.optimizer, "lr_scheduler": self.lr_scheduler}
        return {**self.ema.modules(), **parts, "scaler": self.scaler, "micro_batches": self.micro_batches}

    def on_epoch_end(self, values: dict[str, float]) -> None:
        self.preview.write_to(self.writers, self.step)
