"""Metrics by name: functions of (output, target) that give the mean over the batch, or classes with update, compute
and reset for what is no such mean. Add yours here; torchmetrics' classes need no line where it is installed."""

from collections.abc import Iterable

import torch
from torch import Tensor


def accuracy(output: Tensor, target: Tensor, threshold: float | None = None) -> Tensor:
    """Share of samples whose highest score (B, classes) is at the target (B,); of dense ones, of places (B, ...).

    `threshold`: for one score a sample, (B,) or (B, 1), and for several labels a sample, (B, labels), with targets 0 or
    1 of the same shape: the score above which a label is predicted. 0 for logits, 0.5 for probabilities.

    Raises:
        ValueError: the shapes are others.
    """
    if threshold is not None:
        if output.shape != target.shape:
            raise ValueError(f"accuracy: outputs {_shape(output)} and targets {_shape(target)} have different shapes")
        return ((output > threshold) == (target > 0.5)).float().mean()
    if output.shape == target.shape or output.dim() < 2 or output.shape[1] == 1:
        raise ValueError(
            f"accuracy: outputs {_shape(output)} for targets {_shape(target)} are no scores of classes. For labels of "
            '0 and 1, write {"type": "accuracy", "args": {"threshold": 0}} if the outputs are logits, or 0.5 if they '
            "are probabilities"
        )
    return (_best(output, target, "accuracy") == target).float().mean()


def top_k_accuracy(output: Tensor, target: Tensor, k: int = 3) -> Tensor:
    """Share of samples whose target (B,) is among the k highest scores (B, classes); with k >= classes, all are.

    Raises:
        ValueError: the shapes are others.
    """
    _best(output, target, "top_k_accuracy")
    top = output.topk(min(k, output.shape[1]), dim=1).indices
    return (top == target[:, None]).any(dim=1).float().mean()


class ConfusionMatrix:
    """Counts (classes, classes) of samples by target (row) and by highest score (column).

    `ignore_index`: a target that is not counted, such as -100.

    Raises:
        ValueError: the outputs are not scores (B, classes, ...), or a target is none of the classes.
    """

    def __init__(self, num_classes: int, ignore_index: int | None = None):
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.reset()

    def reset(self) -> None:
        self.counts = torch.zeros(self.num_classes, self.num_classes, dtype=torch.int64)

    def update(self, output: Tensor, target: Tensor) -> None:
        best = _best(output, target, type(self).__name__)
        if output.shape[1] != self.num_classes:
            raise ValueError(
                f"num_classes is {self.num_classes}, but there are {output.shape[1]} scores for each sample"
            )
        pairs = target * self.num_classes + best
        ones = torch.ones_like(pairs)  # bincount would wait for the device
        if self.ignore_index is not None:
            is_counted = target != self.ignore_index
            pairs, ones = pairs.where(is_counted, 0), is_counted.to(pairs.dtype)
        self.counts = self.counts.to(target.device)
        try:
            self.counts.view(-1).scatter_add_(0, pairs.flatten(), ones.flatten())
        except (RuntimeError, IndexError):  # an index that is out of bounds
            self._check(target)
            raise

    def _check(self, target: Tensor) -> None:
        wrong = target[(target < 0) | (target >= self.num_classes)]
        if wrong.numel():
            raise ValueError(f"num_classes is {self.num_classes}, but there is a target {int(wrong[0])}")

    def compute(self) -> Tensor:
        return self.counts

    def merge_state(self, others: Iterable["ConfusionMatrix"]) -> None:
        """Take in what others have counted: those of the other processes of a run."""
        for other in others:
            self.counts = self.counts + other.counts.to(self.counts.device)


def _best(output: Tensor, target: Tensor, name: str) -> Tensor:
    """The class with the highest score, of outputs (B, classes, ...) for class numbers (B, ...)."""
    is_dense = output.dim() >= 2 and output.shape[1] > 1 and (output.shape[0], *output.shape[2:]) == target.shape
    if not is_dense or target.is_floating_point():
        kind = str(target.dtype).removeprefix("torch.")
        raise ValueError(
            f"{name}: outputs {_shape(output)} for targets {_shape(target)}, {kind}. It takes scores (B, classes), and "
            "class numbers (B,) in int64"
        )
    return output.argmax(dim=1)


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
