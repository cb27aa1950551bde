"""The usual step; and the vocabulary stands in the checkpoint."""

from typing import Any

from torch import nn

from examples.text_classification.tokenizer import Tokenizer
from trainer.trainer import Trainer
from utils.checkpoints.checkpoint import Stateful


class TextTrainer(Trainer):
    """As `Trainer`, on a data set that has a `tokenizer`, and `use` to take another one.

    Weights mean nothing with other pieces, and another Python's library would give others.
    """

    def __init__(self, **parts: Any):
        super().__init__(**parts)
        self.vocabulary = Vocabulary([batches.dataset for batches in self.run.batches.values()])

    def stateful(self) -> dict[str, Stateful]:
        return {**super().stateful(), "vocabulary": self.vocabulary}


class Vocabulary(nn.Module):
    """The pieces that the data sets of a run share. A module without weights: modules are what `test.py` loads."""

    def __init__(self, datasets: list[Any]):
        super().__init__()
        self._datasets = datasets

    def get_extra_state(self) -> list[str]:
        return self._datasets[0].tokenizer.pieces

    def set_extra_state(self, pieces: list[str]) -> None:
        for dataset in self._datasets:
            if dataset.tokenizer.pieces != pieces:
                dataset.use(Tokenizer(pieces))
