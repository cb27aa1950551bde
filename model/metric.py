"""Metrics by name: functions of (output, target) that give the mean over the batch, or classes with update, compute
and reset for what is no such mean. Add yours here; torchmetrics' classes need no line where it is installed."""

from collections.abc import Iterable

import torch
from torch import Tensor


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """Share of samples whose highest score (B, classes) is at the target (B,)."""
    return (output.argmax(dim=1) == target).float().mean()


def top_k_accuracy(output: Tensor, target: Tensor, k: int = 3) -> Tensor:
    """Share of samples whose target (B,) is among the k highest scores (B, classes); with k >= classes, all are."""
    top = output.topk(min(k, output.shape[1]), dim=1).indices
    return (top == target[:, None]).any(dim=1).float().mean()


class ConfusionMatrix:
    """Counts (classes, classes) of samples by target (row) and by highest score (column)."""

    def __init__(self, num_classes: int):
        self.num_classes = num_classes
        self.reset()

    def reset(self) -> None:
        self.counts = torch.zeros(self.num_classes, self.num_classes, dtype=torch.int64)

    def update(self, output: Tensor, target: Tensor) -> None:
        pairs = target * self.num_classes + output.argmax(dim=1)
        self.counts = self.counts.to(target.device)
        self.counts.view(-1).scatter_add_(0, pairs, torch.ones_like(pairs))  # bincount would wait for the device

    def compute(self) -> Tensor:
        return self.counts

    def merge_state(self, others: Iterable["ConfusionMatrix"]) -> None:
        """Take in what others have counted: those of the other processes of a run."""
        for other in others:
            self.counts = self.counts + other.counts.to(self.counts.device)
