"""What a person's own loss and metrics do with outputs and targets, on the batch of a rehearsal."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from base.base_trainer import BaseTrainer
from base.checks.report import Report
from base.exact_loss import ExactLoss, LossItems, shapes_differ
from utils.batch import cut, described, detached
from utils.errors import ConfigError
from utils.modules.step_option import StepOption

_NOTHING = object()  # where a loss was not called
TOLERANCE = 1e-3  # relative, of a mean that is put together from parts


class LossWatch:
    """Within its block, `trainer.loss_fn` and the metrics that are functions are looked at when they are called."""

    def __init__(self, trainer: BaseTrainer, report: Report, samples: int):
        self._trainer, self._report, self._samples = trainer, report, samples
        self._before: dict[str, Any] = {}
        self._loss_fn: Any = None
        self._watched: _Watched | None = None  # the loss

    def __enter__(self) -> "LossWatch":
        functions = self._trainer.metrics.functions
        self._before = dict(functions)
        for name, metric in self._before.items():
            functions[name] = _Watched(metric, f"metric {name!r}", self._report)
        self._loss_fn = vars(self._trainer).get("loss_fn")
        if callable(self._loss_fn):
            is_exact = isinstance(self._loss_fn, ExactLoss)
            items = self._items = self._loss_fn.items if is_exact else LossItems(self._loss_fn)
            watched = _Watched(self._loss_fn, f"loss: {items.name}", self._report)
            watched.look = None if items.is_known else self._look_at_parts
            self._watched = self._trainer.loss_fn = watched  # type: ignore[attr-defined]
        return self

    def __exit__(self, *exception: object) -> None:
        self._trainer.metrics.functions.update(self._before)
        if callable(self._loss_fn):
            self._trainer.loss_fn = self._loss_fn  # type: ignore[attr-defined]

    def hints(self) -> list[str]:
        """What the loss was called with, where a loss can do nothing with it."""
        outputs = self._watched.outputs if self._watched else _NOTHING
        if isinstance(outputs, Tensor) or outputs is _NOTHING:
            return []
        found = "None: does forward return its result?" if outputs is None else f"{described(outputs)}."
        return [f"The loss gets from the model {found} Return one tensor, or select it in the step."]

    def _look_at_parts(self, outputs: Any, targets: Any, loss: Any) -> None:
        """Whether the loss of a batch is the mean over samples of those of its parts, by which an epoch's mean, the
        gradients of micro-batches and those of several processes are put together."""
        first, samples = self._samples // 2, self._samples
        if first == 0 or not isinstance(loss, Tensor) or loss.dim():
            return
        try:
            parts = [
                self._loss_fn(*(cut(detached(value), start, end, samples) for value in (outputs, targets)))
                for start, end in ((0, first), (first, samples))
            ]
            joined = (first * float(parts[0]) + (samples - first) * float(parts[1])) / samples
        except Exception:  # a loss that needs the whole batch, or another form of it
            joined = float("nan")
        whole = float(loss.detach())
        if abs(joined - whole) <= TOLERANCE * max(abs(whole), abs(joined), 1e-6):
            return
        name = self._items.name
        reason = f"loss: {name} of a batch is not the mean over samples of those of its parts"
        for option in vars(self._trainer).values():
            if isinstance(option, StepOption) and option.option == "micro_batch_size" and option.is_on:
                raise ConfigError(
                    f"trainer.args.micro_batch_size: {reason} ({whole:.4g} for the batch, {joined:.4g} for its parts), "
                    "so that training would change. Leave micro_batch_size out."
                )
        self._report.note(f"{reason}; in the log, the loss of an epoch is the mean of its batches, by their samples")


class _Watched:
    """A loss or metric, all of whose attributes are there."""

    look: Callable[[Any, Any, Any], None] | None = None
    outputs: Any = _NOTHING  # of the last call

    def __init__(self, function: Callable[..., Any], where: str, report: Report):
        self._function, self._where, self._report = function, where, report

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)

    def __call__(self, outputs: Any, targets: Any, *args: Any, **kwargs: Any) -> Any:
        self.outputs = outputs
        if not isinstance(outputs, Tensor) or not isinstance(targets, Tensor):
            value = self._function(outputs, targets, *args, **kwargs)
        else:
            with _Broadcasts(outputs, targets) as broadcasts:
                value = self._function(outputs, targets, *args, **kwargs)
            if broadcasts.found:
                self._report.problem(f"{self._where} {shapes_differ(*broadcasts.found)}")
        if self.look is not None:
            self.look(outputs, targets, value)
        return value


class _Broadcasts(TorchFunctionMode):
    """Within its block: whether outputs and targets, or what is made of them, are combined so that both are repeated to
    fit."""

    def __init__(self, outputs: Tensor, targets: Tensor):
        super().__init__()
        self._outputs, self._shapes = outputs, {tuple(outputs.shape), tuple(targets.shape)}
        self.found: tuple[Tensor, Tensor] | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and len(args) == 2 and all(type(one) is Tensor for one in args):
            first, second = sorted(args, key=self._is_of_outputs, reverse=True)
            shapes = {tuple(one.shape) for one in args}
            is_pair = shapes == self._shapes or (self._is_column(shapes) and not self._is_of_outputs(second))
            if len(shapes) == 2 and is_pair and result.numel() > max(one.numel() for one in args):
                self.found = first, second
        return result

    def _is_of_outputs(self, tensor: Tensor) -> bool:
        return tensor.requires_grad or _memory_of(tensor) == _memory_of(self._outputs)

    def _is_column(self, shapes: set[tuple[int, ...]]) -> bool:
        """Whether they are (B, 1) and (B,) of the same B."""
        samples = len(self._outputs) if self._outputs.dim() else 0
        return samples > 1 and shapes == {(samples, 1), (samples,)}


def _memory_of(tensor: Tensor) -> int | None:
    """Where its numbers are, which views of it share."""
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else None
