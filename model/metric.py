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
    """Counts (classes, classes) of samples by target (row) and by highest score (column); of more than `MOST_DENSE`
    classes a sparse tensor, unless a subclass has a `compute` of its own.

    `ignore_index`: a target that is not counted, such as -100.

    Raises:
        ValueError: the outputs are not scores (B, classes, ...), or a target is none of the classes.
    """

    MOST_DENSE = 1000
    MOST_PAIRS, MOST_BATCHES = 1 << 18, 256  # that wait to be counted

    def __init__(self, num_classes: int, ignore_index: int | None = None):
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.is_sparse = num_classes > self.MOST_DENSE and type(self).compute is ConfusionMatrix.compute
        self.reset()

    def reset(self) -> None:
        shape = (0,) if self.is_sparse else (self.num_classes, self.num_classes)
        self.counts = torch.zeros(shape, dtype=torch.int64)
        self.codes = torch.zeros(0, dtype=torch.int64)  # sparse: of `counts`, each target * num_classes + output
        self.waiting: list[Tensor] = []  # sparse: codes of samples that are not in `counts` yet

    def update(self, output: Tensor, target: Tensor) -> None:
        best = _best(output, target, type(self).__name__)
        if output.shape[1] != self.num_classes:
            raise ValueError(
                f"num_classes is {self.num_classes}, but there are {output.shape[1]} scores for each sample"
            )
        codes = target.long() * self.num_classes + best
        if self.is_sparse:
            if target.device.type == "cpu":  # elsewhere that would wait for the device; `_count` looks, too
                self._check(target)
            self.waiting.append(codes.flatten())
            if len(self.waiting) > self.MOST_BATCHES or sum(map(len, self.waiting)) > self.MOST_PAIRS:
                self._count()
            return
        ones = torch.ones_like(codes)  # bincount would wait for the device
        if self.ignore_index is not None:
            is_counted = target != self.ignore_index
            codes, ones = codes.where(is_counted, 0), is_counted.to(codes.dtype)
        self.counts = self.counts.to(target.device)
        try:
            self.counts.view(-1).scatter_add_(0, codes.flatten(), ones.flatten())
        except (RuntimeError, IndexError):  # an index that is out of bounds
            self._check(target)
            raise

    def compute(self) -> Tensor:
        if not self.is_sparse:
            return self.counts
        self._count()
        indices = torch.stack([self.codes // self.num_classes, self.codes % self.num_classes])
        shape = (self.num_classes, self.num_classes)
        return torch.sparse_coo_tensor(indices, self.counts, shape, is_coalesced=True, check_invariants=True)

    def merge_state(self, others: Iterable["ConfusionMatrix"]) -> None:
        """Take in what others have counted: those of the other processes of a run."""
        for other in others:
            if self.is_sparse:
                other._count()
                self._count(other.codes, other.counts)
            else:
                self.counts = self.counts + other.counts.to(self.counts.device)

    def _count(self, *more: Tensor) -> None:
        """Add up the samples that wait, and `more`: codes and their counts."""
        waiting = torch.cat(self.waiting) if self.waiting else self.codes[:0]
        codes, counts = more or (waiting[:0], waiting[:0])
        rows = waiting.div(self.num_classes, rounding_mode="floor")
        self._check(rows)
        waiting = waiting if self.ignore_index is None else waiting[rows != self.ignore_index]
        device, self.waiting = waiting.device, []
        codes = torch.cat([self.codes.to(device), waiting, codes.to(device)])
        counts = torch.cat([self.counts.to(device), torch.ones_like(waiting), counts.to(device)])
        self.codes, places = codes.unique(return_inverse=True)
        self.counts = torch.zeros_like(self.codes).index_add_(0, places, counts)

    def _check(self, target: Tensor) -> None:
        wrong = target[((target < 0) | (target >= self.num_classes)) & (target != self.ignore_index)]
        if wrong.numel():
            raise ValueError(f"num_classes is {self.num_classes}, but there is a target {int(wrong[0])}")


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
