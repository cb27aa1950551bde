"""Means over items, exact whatever the sizes of the batches, accumulated on the device."""

from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from utils import distributed


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step reports: scalar tensors, each a mean over `count` items."""

    means: dict[str, Tensor]
    count: int


class RunningMeans:
    """Sums of `mean * count`, divided by the sum of the counts once, when they are read.

    A step may leave names out (a discriminator that trains every second step): each name has its own count.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], Tensor] = {}  # of means that come together, by their names
        self._counts: dict[tuple[str, ...], int] = {}  # their items; the device need not know

    @torch.no_grad()
    def update(self, result: StepResult) -> Tensor:
        """Add a step's means, and return them in a row. Does not wait for the device.

        Raises:
            TypeError: a mean is not a scalar tensor.
        """
        names = tuple(result.means)
        try:
            values = torch.stack([*result.means.values()])
        except (TypeError, RuntimeError):
            _explain(result.means)
            raise
        if values.dim() != 1:
            _explain(result.means)
        sums = self._sums.get(names)
        if sums is None:
            sums = self._sums[names] = torch.zeros(len(names), dtype=_dtype_on(values.device), device=values.device)
            self._counts[names] = 0
        elif sums.device != values.device:  # loaded from a checkpoint
            sums = self._sums[names] = sums.to("cpu", _dtype_on(values.device)).to(values.device)
        sums.add_(values, alpha=result.count)
        self._counts[names] += result.count
        return values

    def compute(self) -> dict[str, float]:
        """The means over all items of all ranks. Syncs with the device."""
        sums: dict[str, float] = {}
        counts: dict[str, float] = {}
        own = [(names, totals.tolist()) for names, totals in self._totals()]
        for names, (*values, count) in chain.from_iterable(distributed.gather(own)):
            for name, value in zip(names, values, strict=True):
                sums[name] = sums.get(name, 0.0) + value
                counts[name] = counts.get(name, 0.0) + count
        return {name: sums[name] / counts[name] for name in sums}

    def state_dict(self) -> dict[str, Any]:
        return {"totals": [(list(names), totals) for names, totals in self._totals()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on adding to what was saved."""
        self._sums, self._counts = {}, {}
        for names, totals in ((tuple(names), totals) for names, totals in state["totals"]):
            self._sums[names] = self._sums.get(names, 0) + totals[:-1].clone()
            self._counts[names] = self._counts.get(names, 0) + int(totals[-1])

    def _totals(self) -> list[tuple[tuple[str, ...], Tensor]]:
        """Names, and their sums with the count last."""
        return [
            (names, torch.cat([sums, sums.new_tensor([self._counts[names]])])) for names, sums in self._sums.items()
        ]


def joint_means(parts: list[tuple[list[float], int]]) -> list[float]:
    """Of means over so many items of each process, those over the items of all; as they are where there is one."""
    if len(parts) == 1:
        return parts[0][0]
    total = sum(items for _, items in parts)
    return [sum(own[i] * items for own, items in parts) / total for i in range(len(parts[0][0]))]


def _dtype_on(device: torch.device) -> torch.dtype:
    """float64: a float32 sum over an epoch of single items is wrong in the sixth digit. MPS has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def _explain(means: dict[str, Any]) -> None:
    for name, value in means.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"StepResult: {name!r} is a {type(value).__name__}. Give a scalar tensor.")
        if value.dim() != 0:
            raise TypeError(
                f"StepResult: {name!r} has shape {tuple(value.shape)}. Give a scalar: its mean over the batch."
            )
