"""The supervised step. Start yours here: copy this class, change the step."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from base.base_trainer import BaseTrainer, StepResult
from base.exact_loss import ExactLoss
from base.lr_schedule import LRSchedule
from base.run import Run
from trainer.preview import Preview
from utils.batch import batch_size
from utils.checkpoints.checkpoint import Stateful
from utils.modules.gradients import check_max_norm, clip_gradients


class Trainer(BaseTrainer):
    """Batches are (inputs, targets). The model maps inputs to outputs; the loss compares outputs with targets.

    Means are over samples. The mean of one of torch's losses is over what that loss averages (weights of classes,
    labelled tokens). If your own loss averages over something else, write a step that returns its own count.

    `max_grad_norm`: gradients with a larger 2-norm are scaled down to it.
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
        self.model = model
        self.forward = self.scored = self.wrap(model)  # call these; `model` stays bare, as do its names in a checkpoint
        self.loss_fn = ExactLoss(loss_fn, [batches.dataset for batches in run.batches.values()])
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.max_grad_norm = check_max_norm(max_grad_norm)
        self.preview = Preview()

    def train_step(self, batch: tuple[Any, Any]) -> StepResult:
        inputs, targets = batch
        self.optimizer.zero_grad()
        outputs = self.forward(inputs)
        loss = self.loss_fn(outputs, targets)
        loss.backward()
        grad_norm = clip_gradients(self.model.parameters(), self.max_grad_norm)
        self.optimizer.step()
        means = {"loss": loss, **self.metrics(outputs, targets), "grad_norm": grad_norm}
        return StepResult(means, self.samples or batch_size(batch))

    def valid_step(self, batch: tuple[Any, Any]) -> StepResult:
        inputs, targets = batch
        outputs = self.scored(inputs)
        loss = self.loss_fn(outputs, targets)
        self.preview.keep(self.step, inputs, outputs, targets)
        return StepResult({"loss": loss, **self.metrics(outputs, targets)}, self.samples or batch_size(batch))

    def stateful(self) -> dict[str, Stateful]:
        return {"model": self.model, "optimizer": self.optimizer, "lr_scheduler": self.lr_scheduler}

    def on_epoch_end(self, values: dict[str, float]) -> None:
        self.preview.write_to(self.writers, self.step)
