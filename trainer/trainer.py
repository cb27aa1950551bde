"""The supervised step. Start yours here: copy this class, change the step."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from base.base_trainer import BaseTrainer, StepResult
from base.lr_schedule import LRSchedule
from base.run import Run
from trainer.gradients import clip_gradients
from trainer.preview import Preview
from utils.batch import batch_size
from utils.checkpoint import Stateful


class Trainer(BaseTrainer):
    """Batches are (inputs, targets); the model maps inputs to outputs, the loss compares them with targets.

    Means are weighted by the number of samples; a loss that averages over anything else (class weights, tokens) wants
    a step of its own, with its own count. `max_grad_norm`: larger gradients are scaled down to this 2-norm.
    """

    def __init__(
        self,
        run: Run,
        model: nn.Module,
        loss_fn: Callable[[Any, Any], Tensor],
        optimizer: Optimizer,
        lr_scheduler: LRSchedule,
        max_grad_norm: float | None = None,
    ):
        super().__init__(run)
        if max_grad_norm is not None and not (isinstance(max_grad_norm, (int, float)) and max_grad_norm > 0):
            raise ValueError(f"max_grad_norm is {max_grad_norm!r}, not a number above 0")
        if isinstance(loss_fn, nn.Module) and any(True for _ in loss_fn.parameters()):
            raise ValueError("the loss has parameters, which this trainer would neither train nor save")
        self.model = model
        self.forward = self.wrap(model)  # call this one; `model` stays bare, and so do its names in a checkpoint
        self.loss_fn = loss_fn
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.max_grad_norm = max_grad_norm
        self.preview = Preview()

    def train_step(self, batch: tuple[Any, Any]) -> StepResult:
        inputs, targets = batch
        self.optimizer.zero_grad()
        outputs = self.forward(inputs)
        loss = self.loss_fn(outputs, targets)
        loss.backward()
        grad_norm = clip_gradients(self.model.parameters(), self.max_grad_norm)
        self.optimizer.step()
        return StepResult({"loss": loss, "grad_norm": grad_norm, **self.metrics(outputs, targets)}, batch_size(targets))

    def valid_step(self, batch: tuple[Any, Any]) -> StepResult:
        inputs, targets = batch
        outputs = self.forward(inputs)
        self.preview.keep(self.step, inputs, outputs, targets)
        return StepResult(
            {"loss": self.loss_fn(outputs, targets), **self.metrics(outputs, targets)}, batch_size(targets)
        )

    def stateful(self) -> dict[str, Stateful]:
        return {"model": self.model, "optimizer": self.optimizer, "lr_scheduler": self.lr_scheduler}

    def on_epoch_end(self, values: dict[str, float]) -> None:
        self.preview.write_to(self.writers, self.step)
