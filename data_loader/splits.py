"""Cutting a set in two."""

import torch
from torch import Tensor

from utils.errors import ConfigError


def stratified_split(targets: Tensor, second_size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of two parts of a set, each in ascending order, with the classes in the set's proportions.

    `targets`: (N,) class numbers. `second_size`: samples in the second part, exactly.
    A function of its arguments: draws from no global generator.

    Raises:
        ConfigError: there are not as many samples, or the first part would be empty.
    """
    if not isinstance(second_size, int) or not 0 <= second_size < len(targets):
        raise ConfigError(
            f"dataset.args.valid_size: found {second_size!r}; the training set has {len(targets)} samples. "
            f"Write a whole number from 0 to {len(targets) - 1}."
        )
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.zeros(len(targets), dtype=torch.bool)
    classes, counts = targets.unique(return_counts=True)
    shares = counts.double() * second_size / len(targets)
    sizes = shares.floor().long()
    sizes[(shares - sizes).argsort(descending=True, stable=True)[: second_size - int(sizes.sum())]] += 1
    for target, size in zip(classes, sizes.tolist(), strict=True):
        members = (targets == target).nonzero().flatten()
        chosen[members[torch.randperm(len(members), generator=generator)[:size]]] = True
    return (~chosen).nonzero().flatten(), chosen.nonzero().flatten()
