"""What tells of rare classes."""

from torch import Tensor

from model.metric import ConfusionMatrix


class MacroRecall(ConfusionMatrix):
    """The mean over classes of the share of samples that are found: the accuracy, were all classes equally frequent.

    `classes`: those that count; null for all.
    """

    def __init__(self, num_classes: int, classes: list[int] | None = None):
        super().__init__(num_classes)
        self.classes = list(range(num_classes)) if classes is None else classes

    def compute(self) -> Tensor:
        counts = self.counts.double()[self.classes]
        return (counts[:, self.classes].diagonal() / counts.sum(dim=1).clamp(min=1)).mean()
