"""What is measured beside the accuracy."""

from torch import Tensor

from model.metric import ConfusionMatrix


class MacroF1(ConfusionMatrix):
    """The mean over classes of F1, the harmonic mean of precision and recall: small classes count as large ones do."""

    def compute(self) -> Tensor:
        counts = self.counts.double()
        return (2 * counts.diagonal() / (counts.sum(dim=0) + counts.sum(dim=1)).clamp(min=1)).mean()
