"""Means over items, exact whatever the sizes of the batches, accumulated on the device."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from utils.distributed import processes
from utils.errors import BadReturn

Count = int | float | Tensor


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step reports: scalars (tensors, or Python's or NumPy's numbers), each a mean over `count` items.

    `count` may be a fraction or a scalar tensor; of 0 items, nothing counts. A mean that is over something else than
    the other ones comes from `mean_over`.
    """

    means: Mapping[str, Any]
    count: Count

    def counts(self) -> list[Count]:
        """What each mean is over, in order."""
        return [getattr(mean, "over", self.count) for mean in self.means.values()]


def mean_over(mean: Tensor, count: Count) -> Tensor:
    """Return a mean that says what it is over: labelled tokens, or the weights of their classes. Without gradients."""
    mean = mean.detach()
    mean.over = count  # type: ignore[attr-defined]
    return mean


def mean_of_parts(parts: list[dict[str, Tensor]], counts: list[int]) -> dict[str, Tensor]:
    """The means over all parts, of those over each; `counts`: samples in each."""
    if len(parts) == 1:
        return parts[0]
    means = {}
    for name in parts[0]:
        values = torch.stack([part[name].detach() for part in parts])
        over = [getattr(part[name], "over", None) for part in parts]
        own = counts if None in over else over
        items = torch.stack([torch.as_tensor(number, device=values.device) for number in own]).double()
        total = items.sum()
        mean = (torch.where(items > 0, values, 0.0) * (items / total)).sum().to(values.dtype)
        means[name] = mean if None in over else mean_over(mean, total)
    return means


class RunningMeans:
    """Sums of `mean * count`, divided by the sum of the counts once, when they are read.

    A step may leave names out (a discriminator that trains every second step): each name has its own count.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], Tensor] = {}  # of means that come together, by their names
        self._counts: dict[tuple[str, ...], Any] = {}  # their items: a number, or a row of one for each name

    @torch.no_grad()
    def update(self, result: StepResult) -> Tensor:
        """Add a step's means, and return them in a row; 0 for those over nothing. Does not wait for the device.

        Raises:
            BadReturn: a mean is not a scalar, or a count not a number of items.
        """
        names, count = tuple(result.means), result.count
        try:
            values = torch.stack([*result.means.values()])
        except (TypeError, RuntimeError):
            values = _stacked(result.means)
        if values.dim() != 1 or values.is_complex():
            values = _stacked(result.means)
        has_own_counts = any(hasattr(mean, "over") for mean in result.means.values())
        if has_own_counts or type(count) is not int or count <= 0:
            count = _row_of(result.counts(), values)
            values = torch.where(count > 0, values, 0.0)
        sums = self._sums.get(names)
        if sums is None:
            sums = self._sums[names] = torch.zeros(len(names), dtype=_dtype_on(values.device), device=values.device)
            self._counts[names] = 0
        elif sums.device != values.device:  # loaded from a checkpoint
            sums = self._sums[names] = sums.to("cpu", _dtype_on(values.device)).to(values.device)
            self._counts[names] = torch.as_tensor(self._counts[names]).to(sums)
        if isinstance(count, Tensor):
            sums.add_(values * count)
        else:
            sums.add_(values, alpha=count)
        self._counts[names] = self._counts[names] + count
        return values

    def compute(self) -> dict[str, float]:
        """The means over all items of all ranks; NaN for a name that was over nothing. Syncs with the device."""
        sums: dict[str, float] = {}
        counts: dict[str, float] = {}
        own = [(names, totals.tolist()) for names, totals in self._totals()]
        for names, totals in chain.from_iterable(processes.gather(own)):
            for name, value, count in zip(names, *totals, strict=True):
                sums[name] = sums.get(name, 0.0) + value
                counts[name] = counts.get(name, 0.0) + count
        return {name: sums[name] / counts[name] if counts[name] else math.nan for name in sums}

    def state_dict(self) -> dict[str, Any]:
        return {"totals": [(list(names), totals) for names, totals in self._totals()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on adding to what was saved."""
        self._sums, self._counts = {}, {}
        for names, totals in ((tuple(names), totals) for names, totals in state["totals"]):
            if not all(isinstance(name, str) for name in names):
                raise TypeError("the name of a mean is not a text")
            if totals.dim() == 1:  # of format 2: the sums, and one count for all of them
                totals = torch.stack([totals[:-1], totals[-1].expand(len(names))])
            sums, counts = totals.clone().view(2, len(names))
            self._sums[names] = self._sums.get(names, 0) + sums
            self._counts[names] = self._counts.get(names, 0) + counts

    def _totals(self) -> list[tuple[tuple[str, ...], Tensor]]:
        """Names; and (2, names): their sums, and what they are over."""
        return [
            (names, torch.stack([sums, sums.new_zeros(len(names)) + self._counts[names]]))
            for names, sums in self._sums.items()
        ]


def joint_means(parts: list[tuple[list[float], list[Any]]]) -> list[float]:
    """Of means over so many items of each process, those over the items of all; as they are where there is one."""
    if len(parts) == 1:
        return parts[0][0]
    totals = [sum(counts[i] for _, counts in parts) or 1 for i in range(len(parts[0][0]))]
    return [sum(own[i] * counts[i] for own, counts in parts) / totals[i] for i in range(len(totals))]


def as_number(value: Any, where: str) -> float:
    """A number of Python's, NumPy's or torch's as a float.

    Raises:
        BadReturn: it is something else.
    """
    try:
        if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex():
            return float(value.detach())
        if math.prod(getattr(value, "shape", ())) == 1 and not isinstance(value, (str, bytes, complex, Tensor)):
            return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError):
        pass
    raise BadReturn(f"{where} is {_described(value)}. Return a number: its mean over the batch.")


def _described(value: Any) -> str:
    if value is None:
        return "None"
    shape = getattr(value, "shape", None)
    return f"of shape {tuple(shape)}" if shape else f"a {type(value).__name__}"


def _stacked(means: Mapping[str, Any]) -> Tensor:
    """Scalars of any kind as a row of tensors, on the device of the first tensor."""
    device = next((mean.device for mean in means.values() if isinstance(mean, Tensor)), torch.device("cpu"))
    row = [
        mean.detach().reshape(()).to(device)
        if isinstance(mean, Tensor) and mean.numel() == 1 and not mean.is_complex()
        else torch.tensor(as_number(mean, f"StepResult: {name!r}"), device=device)
        for name, mean in means.items()
    ]
    return torch.stack(row) if row else torch.zeros(0, device=device)


def _row_of(counts: list[Count], values: Tensor) -> Tensor:
    row = []
    for count in counts:
        if not isinstance(count, Tensor) or count.numel() != 1:
            number = as_number(count, "StepResult: count")
            if not 0 <= number < math.inf:
                raise BadReturn(f"StepResult: count is {number:g}. Return the number of items of the batch.")
            row.append(torch.tensor(number, dtype=_dtype_on(values.device), device=values.device))
        else:
            row.append(count.detach().reshape(()).to(values.device, _dtype_on(values.device)))
    return torch.stack(row) if row else values


def _dtype_on(device: torch.device) -> torch.dtype:
    """float64: a float32 sum over an epoch of single items is wrong in the sixth digit. MPS has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64
