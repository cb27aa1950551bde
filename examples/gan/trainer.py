"""Two models, two optimizers, two losses, one step."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from base.base_trainer import BaseTrainer, StepResult
from base.run import Run
from examples.gan.model import Generator
from examples.gan.pictures import grid
from utils.checkpoints.checkpoint import Stateful
from utils.modules.averaging import WeightAverage

ROWS = 8  # of the picture; a column is a class


class GANTrainer(BaseTrainer):
    """Batches are (images (B, 1, H, W), classes (B,)). The discriminator gives logits (B,) to images and classes;
    `loss_fn` is a binary cross-entropy of logits.

    `ema_decay`: what is scored and saved as the model is a moving average of the generator's weights.
    `generated_per_real`: how many images are made for each one of the validation.
    """

    def __init__(
        self,
        run: Run,
        model: Generator,
        loss_fn: Callable[[Any, Any], Tensor],
        optimizer: Optimizer,
        discriminator: nn.Module,
        discriminator_optimizer: Callable[..., Optimizer],
        ema_decay: float | None = None,
        generated_per_real: int = 7,
    ):
        super().__init__(run)
        self.generator, self.discriminator = model, discriminator.to(run.devices.main)
        self.generate, self.judge = self.wrap(self.generator), self.wrap(self.discriminator)
        self.average = WeightAverage(self.generator, ema_decay)
        self.loss_fn = loss_fn
        self.optimizer = optimizer
        self.discriminator_optimizer = discriminator_optimizer(self.discriminator.parameters())
        self.generated_per_real = generated_per_real

    def train_step(self, batch: tuple[Tensor, Tensor]) -> StepResult:
        real, classes = batch

        self.discriminator_optimizer.zero_grad()
        with torch.no_grad():
            fake = self.generator(self.noise(len(real)), classes)
        discriminator_loss = self.discriminator_loss(self.judge(real, classes), self.judge(fake, classes))
        discriminator_loss.backward()
        self.discriminator_optimizer.step()

        self.optimizer.zero_grad()
        scores = self.discriminator(self.generate(self.noise(len(real)), classes), classes)
        generator_loss = self.loss_fn(scores, torch.ones_like(scores))
        generator_loss.backward()  # what it leaves in the discriminator, the next zero_grad takes away
        self.optimizer.step()
        self.average.update()

        means = {"generator_loss": generator_loss, "discriminator_loss": discriminator_loss}
        return StepResult(means | self.metrics((fake, classes), batch), len(real))

    def valid_step(self, batch: tuple[Tensor, Tensor]) -> StepResult:
        real, classes = batch
        wanted = classes.repeat(self.generated_per_real)
        fake = self.average.model(self.noise(len(wanted)), wanted)
        loss = self.discriminator_loss(self.discriminator(real, classes), self.discriminator(fake, wanted))
        return StepResult({"discriminator_loss": loss, **self.metrics((fake, wanted), batch)}, len(real))

    def discriminator_loss(self, real_scores: Tensor, fake_scores: Tensor) -> Tensor:
        real_loss = self.loss_fn(real_scores, torch.ones_like(real_scores))
        return real_loss + self.loss_fn(fake_scores, torch.zeros_like(fake_scores))

    def noise(self, count: int) -> Tensor:
        return torch.randn(count, self.generator.noise_size, device=self.run.devices.main)

    def stateful(self) -> dict[str, Stateful]:
        optimizers = {"optimizer": self.optimizer, "discriminator_optimizer": self.discriminator_optimizer}
        return {**self.average.modules(), "discriminator": self.discriminator, **optimizers}

    def on_epoch_end(self, values: dict[str, float]) -> None:
        self.writers.picture("generated", self.picture, self.step)

    @torch.no_grad()
    def picture(self) -> Tensor:
        """A column for each class; of the same noise each time, also after a restart."""
        classes = torch.arange(self.generator.num_classes).repeat(ROWS)
        seeded = torch.Generator().manual_seed(self.run.seed)
        noise = torch.randn(len(classes), self.generator.noise_size, generator=seeded)
        return grid(self.average.model(*self.run.devices.move((noise, classes))), self.generator.num_classes)
