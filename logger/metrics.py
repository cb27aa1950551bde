"""The metrics of a phase: functions give a mean for each batch, objects see the whole phase."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class MetricObject(Protocol):
    """A metric that is no mean of batch means (F1, a confusion matrix, ...); any torchmetrics class is one."""

    def update(self, output: Any, target: Any) -> None: ...

    def compute(self) -> Tensor: ...

    def reset(self) -> None: ...


class Metrics:
    """Metrics by name. Order of calls in a phase: `reset`, this object itself for each batch, `compute`."""

    def __init__(self, metrics: dict[str, Callable[..., Any] | MetricObject] | None = None):
        metrics = metrics or {}
        self.objects = {name: metric for name, metric in metrics.items() if isinstance(metric, MetricObject)}
        self.functions = {name: metric for name, metric in metrics.items() if not isinstance(metric, MetricObject)}

    def to(self, device: torch.device) -> "Metrics":
        """Move the metrics that hold tensors as a module does (torchmetrics)."""
        for metric in self.objects.values():
            if isinstance(metric, nn.Module):
                metric.to(device)
        return self

    def reset(self) -> None:
        for metric in self.objects.values():
            metric.reset()

    @torch.no_grad()
    def __call__(self, output: Any, target: Any) -> dict[str, Tensor]:
        """Update the objects with a batch; return the functions' means over it."""
        for metric in self.objects.values():
            metric.update(output, target)
        return {name: metric(output, target) for name, metric in self.functions.items()}

    def compute(self) -> dict[str, Tensor]:
        """What the objects say of all batches since `reset`."""
        return {name: metric.compute() for name, metric in self.objects.items()}


def scalars_and_matrices(computed: dict[str, Any]) -> dict[str, Any]:
    """What metrics computed, as floats and, for tensors of two dimensions, as they are; a vector is a float an item.

    Raises:
        TypeError: something else.
    """
    values: dict[str, Any] = {}
    for name, value in computed.items():
        if isinstance(value, Tensor) and value.dim() == 2:
            values[name] = value
        elif isinstance(value, Tensor) and value.dim() == 1:
            values |= {f"{name}_{i}": item for i, item in enumerate(value.tolist())}
        elif isinstance(value, (int, float)) or (isinstance(value, Tensor) and value.dim() == 0):
            values[name] = float(value)
        else:
            raise TypeError(
                f"metric {name!r}: compute gives a {type(value).__name__}. Give a number, vector or matrix."
            )
    return values
