"""Digits of which some are rare, and a sampler that draws rare ones more often."""

import torch
from torch.utils.data import WeightedRandomSampler

from data_loader.datasets import Digits, UInt8Images


class ThinnedDigits(Digits):
    """The embedded digits, of which the training set has fewer of each class than of the one before, in a geometric
    series: all zeros, and of the nines `last_share`. Validation and test sets stay as they are, balanced.
    """

    def __init__(self, split: str, last_share: float = 0.02):
        super().__init__(split)
        if not 0 < last_share <= 1:
            raise ValueError(f"last_share is {last_share}, not a share above 0")
        if split == "train":
            kept = []
            for target, count in enumerate(self.targets.bincount().tolist()):
                size = max(1, round(count * last_share ** (target / 9)))
                kept.append((self.targets == target).nonzero().flatten()[:size])
            chosen = torch.cat(kept).sort().values
            self.images, self.targets = self.images[chosen], self.targets[chosen]


class BalancedSampler(WeightedRandomSampler):
    """Draws as many samples as there are, with replacement, each with the chance 1 / (samples of its class) ** `power`.

    `dataset`: has `targets` (N,). `power`: 1 makes the classes equally frequent; 0 draws every sample alike.
    """

    def __init__(self, dataset: UInt8Images, generator: torch.Generator, power: float = 1.0):
        counts = dataset.targets.bincount().double()
        weights = counts[dataset.targets].pow(-power)
        super().__init__(weights.tolist(), len(weights), replacement=True, generator=generator)
