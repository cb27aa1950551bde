"""The supervised step as it is, and a sample of text after each validation."""

import logging
from typing import Any, cast

import torch

from examples.language_model.data import decoded, encoded
from examples.language_model.model import GPT
from trainer.full_trainer import FullTrainer

log = logging.getLogger(__name__)


class LanguageModelTrainer(FullTrainer):
    """Batches are (tokens (B, T), those one later (B, T)); all of one length, so that means are over tokens.

    `prompt`: how each sample begins. `sample_length`: characters of it that the model adds. `temperature`: below 1 for
    what is more probable.
    """

    def __init__(self, *, prompt: str = "Return ", sample_length: int = 200, temperature: float = 0.8, **parts: Any):
        super().__init__(**parts)
        self.prompt = encoded(prompt)
        self.sample_length, self.temperature = sample_length, temperature

    def on_epoch_end(self, values: dict[str, float]) -> None:
        super().on_epoch_end(values)
        sample = self.sample()
        log.info("Sample after step %d:\n%s\n", self.step, sample)
        self.writers.text("sample", sample, self.step)

    def sample(self) -> str:
        """Drawn by a generator of its own, a function of the seed and the step: the run's go on as if nothing was."""
        generator = torch.Generator().manual_seed(self.run.seed + self.step)
        model, prompt = cast(GPT, self.ema.model), self.run.devices.move(self.prompt)
        return decoded(model.continued(prompt, self.sample_length, generator, self.temperature))
