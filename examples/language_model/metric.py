"""What a language model is measured by."""

from collections.abc import Iterable
from math import log

import torch
from torch import Tensor
from torch.nn import functional as F


def bits_per_character(output: Tensor, target: Tensor) -> Tensor:
    """The mean negative log2 of the probability that logits (B, vocabulary, T) give to tokens (B, T)."""
    return F.cross_entropy(output, target) / log(2)


class Perplexity:
    """The exponential of the mean negative log-likelihood of tokens (B, T) under logits (B, vocabulary, T).

    Over all tokens of the phase: a mean of each batch's perplexity would be more, by whatever batches differ.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.sums: list[Tensor] = []  # of each batch; added in float64, which not every device has
        self.tokens = 0

    def update(self, output: Tensor, target: Tensor) -> None:
        self.sums.append(F.cross_entropy(output, target, reduction="sum"))
        self.tokens += target.numel()

    def compute(self) -> Tensor:
        return (torch.stack(self.sums).cpu().double().sum() / self.tokens).exp()

    def merge_state(self, others: Iterable["Perplexity"]) -> None:
        """Take in what others have seen: those of the other processes of a run."""
        for other in others:
            self.sums += other.sums
            self.tokens += other.tokens
