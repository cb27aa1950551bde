"""The metrics of a phase: functions give a mean for each batch, objects see the whole phase."""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from logger.means import as_number
from utils.batch import detached, move, tensors
from utils.checkpoints.checkpoint import packed, unpacked
from utils.checkpoints.plain import is_plain
from utils.distributed import processes
from utils.errors import BadReturn, ConfigError

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
        """Update the objects with a batch; return the functions' means over it. They get no gradients to keep.

        Raises:
            BadReturn: a function returns something else than a number.
        """
        output, target = detached(output), detached(target)
        for metric in self.objects.values():
            metric.update(output, target)
        return {name: _scalar(name, metric(output, target)) for name, metric in self.functions.items()}

    def end_batch(self, samples: int) -> None:
        """Say that a step with a batch of so many samples is over, to the objects that ask for it."""
        for metric in self.objects.values():
            if hasattr(metric, "end_batch"):
                metric.end_batch(samples)

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


def _scalar(name: str, value: Any) -> Tensor:
    return (
        value if isinstance(value, Tensor) and value.dim() == 0 else torch.tensor(as_number(value, f"metric {name!r}"))
    )


def _of_all_ranks(name: str, metric: Any) -> Any:
    """The metric; of several processes, a copy that has seen what all of them have. torchmetrics' does that itself."""
    if processes.world_size() == 1 or hasattr(metric, "sync_on_compute"):
        return metric
    if not hasattr(metric, "merge_state"):
        raise ConfigError(
            f"metrics: {name!r} does not say how to put together what several processes have seen. Give the class "
            "merge_state(others), which takes in what its others have seen."
        )
    states = [unpacked(state) for state in processes.gather(packed(_state_of(metric)))]
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
    plain = {name: value for name, value in members.items() if is_plain(value)}
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
            value = move(value, device) if name in state["moved"] else value
            is_deque = isinstance(members[name], deque)
            setattr(metric, name, deque(value, members[name].maxlen) if is_deque else value)
    for name, inner in state["inner"].items():
        if isinstance(members.get(name), MetricObject):
            _give_state(members[name], inner, device)


def _members(metric: Any) -> dict[str, Any]:
    return vars(metric) | getattr(metric, "_modules", {})


def scalars_and_matrices(computed: dict[str, Any]) -> dict[str, Any]:
    """What metrics computed, as floats and, where it has two dimensions, as tensors. A vector is a float for each item,
    a dict one for each key, with the metric's name before it.

    Raises:
        BadReturn: something else.
    """
    return {name: value for metric, found in computed.items() for name, value in _values_in(metric, found)}


def _values_in(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _values_in(f"{name}_{key}", item)
        return
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):  # such as the points of a curve
        tensor = None
    if tensor is None or isinstance(value, tuple) or tensor.dim() > 2 or tensor.is_complex():
        found = f"a {type(value).__name__}" + (f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else "")
        raise BadReturn(
            f"metric {name!r}: compute() returns {found}. Return a number, a vector, a matrix, or a dict of these; of "
            "a curve, the area below it."
        )
    if tensor.dim() == 2:
        yield name, tensor
    elif tensor.dim() == 1:
        yield from ((f"{name}_{i}", float(item)) for i, item in enumerate(tensor.tolist()))
    else:
        yield name, float(tensor)
