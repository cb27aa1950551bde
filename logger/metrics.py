"""The metrics of a phase: functions give a mean for each batch, objects see the whole phase."""

import logging
from collections.abc import Callable
from copy import deepcopy
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from utils import distributed
from utils.batch import move, tensors
from utils.checkpoint import packed, unpacked
from utils.errors import ConfigError

log = logging.getLogger(__name__)


@runtime_checkable
class MetricObject(Protocol):
    """A metric that is no mean of batch means (F1, a confusion matrix, ...); any torchmetrics class is one.

    For a run of several processes it has `merge_state(others)`, too, which takes in what those have seen.
    """

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
        """What the objects say of all batches since `reset`, those of all processes.

        Raises:
            ConfigError: one does not say how to put together what several processes have seen.
        """
        return {name: _of_all_ranks(name, metric).compute() for name, metric in self.objects.items()}

    def state_dict(self) -> dict[str, Any]:
        """What the objects have seen since `reset`, for a checkpoint within a phase."""
        return {name: _state_of(metric) for name, metric in self.objects.items()}

    def joined(self, states: list[dict[str, Any]]) -> dict[str, Any]:
        """The state of one that has seen what each of these states has; what cannot be joined is lost."""
        whole = {}
        for name, metric in self.objects.items():
            if hasattr(metric, "merge_state"):
                whole[name] = _state_of(merged(metric, [state[name] for state in states], torch.device("cpu")))
            else:
                log.warning("metrics: what %r had seen in this epoch is lost: it has no merge_state.", name)
        return whole

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Go on from what was saved. `device`: where the steps' outputs are."""
        for name in self.objects.keys() & state.keys():
            _give_state(self.objects[name], state[name], device)


def _of_all_ranks(name: str, metric: Any) -> Any:
    """The metric; of several processes, a copy that has seen what all of them have. torchmetrics' does that itself."""
    if distributed.world_size() == 1 or hasattr(metric, "sync_on_compute"):
        return metric
    if not hasattr(metric, "merge_state"):
        raise ConfigError(
            f"metrics: {name!r} does not say how to put together what several processes have seen. Give the class "
            "merge_state(others), which takes in what its others have seen."
        )
    states = [unpacked(state) for state in distributed.gather(packed(_state_of(metric)))]
    device = next((tensor.device for tensor in tensors(_state_of(metric))), torch.device("cpu"))
    return merged(metric, states, device)


def merged(metric: Any, states: list[dict[str, Any]], device: torch.device) -> Any:
    """A copy of a metric that has seen what each of these states has."""
    first, *others = (deepcopy(metric) for _ in states)
    for copy, state in zip((first, *others), states, strict=True):
        _give_state(copy, state, device)
    for other in others:
        first.merge_state(other if hasattr(first, "sync_on_compute") else [other])  # torchmetrics takes one
    return first


def _state_of(metric: Any) -> dict[str, Any]:
    """What a metric says its state is; else all attributes that are plain values, and those of metrics within it.

    A module's own `state_dict` leaves out what torchmetrics has seen.
    """
    if hasattr(metric, "state_dict") and not isinstance(metric, nn.Module):
        return {"own": metric.state_dict()}
    members = {name: value for name, value in _members(metric).items() if name != "_computed"}  # torchmetrics' cache
    plain = {name: value for name, value in members.items() if _is_plain(value)}
    inner = {name: _state_of(value) for name, value in members.items() if isinstance(value, MetricObject)}
    moved = [name for name, value in plain.items() if any(tensor.device.type != "cpu" for tensor in tensors(value))]
    return {"plain": plain, "inner": inner, "moved": moved}


def _give_state(metric: Any, state: dict[str, Any], device: torch.device) -> None:
    if "own" in state:
        metric.load_state_dict(state["own"])
        return
    members = _members(metric)
    for name, value in state["plain"].items():
        if name in members:  # nothing else: the names are a file's
            setattr(metric, name, move(value, device) if name in state["moved"] else value)
    for name, inner in state["inner"].items():
        if isinstance(members.get(name), MetricObject):
            _give_state(members[name], inner, device)


def _members(metric: Any) -> dict[str, Any]:
    return vars(metric) | getattr(metric, "_modules", {})


def _is_plain(value: Any) -> bool:
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(map(_is_plain, value.values()))
    return value is None or type(value) in (Tensor, bool, int, float, str)


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
