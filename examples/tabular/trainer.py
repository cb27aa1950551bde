"""Training of a model that looks at its training rows first."""

from typing import Any

from base.run import Run
from examples.tabular.model import TableNet
from trainer.trainer import Trainer


class TableTrainer(Trainer):
    """Fits what the model knows of the columns to the training set alone; the step is that of `Trainer`.

    A model that starts from the weights of another run keeps what those were fitted to.
    """

    def __init__(self, run: Run, model: TableNet, **parts: Any):
        if "train" in run.batches and not model.fitted_rows:
            dataset = run.batches["train"].dataset
            model.fit(dataset.rows, dataset.targets)
        super().__init__(run=run, model=model, **parts)
