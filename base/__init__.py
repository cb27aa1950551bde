"""What a project builds on."""

from base.base_dataset import BaseDataset
from base.base_model import BaseModel
from base.base_trainer import BaseTrainer, StepResult
from base.run import Run

__all__ = ["BaseDataset", "BaseModel", "BaseTrainer", "Run", "StepResult"]
