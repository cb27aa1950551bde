"""What reaches the losses of a step, whoever calls them."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import isfinite, log
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.overrides import TorchFunctionMode

from base.base_trainer import BaseTrainer, StepResult
from base.checks.check_step import Counted, step_on
from base.checks.loss_watch import LossWatch
from base.checks.report import Report
from base.run import Batches
from logger.means import as_number
from utils.batches.attributes import targets_of
from utils.errors import UserError

IGNORED = -100  # torch's own number for a sample without a label
MOST_ROWS, MOST_EACH = 256, 16  # that are looked at; of dense outputs, samples and places in each
NOT_ONE = 0.1  # how far the logarithm of a sum of probabilities may be from 0
BINARY = (F.binary_cross_entropy, F.binary_cross_entropy_with_logits)
_LOSSES = (F.cross_entropy, F.nll_loss, *BINARY)
# What autograd has between a value and the same numbers in another shape, type or place.
_ONLY_MOVES = {
    *("View", "UnsafeView", "Reshape", "ReshapeAlias", "Squeeze", "Unsqueeze", "Slice", "Select", "Transpose"),
    *("Permute", "T", "Expand", "ToCopy", "Clone", "Alias", "Gather"),
}
_PROBABILITIES = {"Sigmoid", "Softmax", "Hardsigmoid"}


@dataclass(frozen=True)
class LossCall:
    """A call of a loss in a step. `classes`: of its scores; 2 for binary ones. `targets`: where they are indices."""

    name: str
    value: float
    classes: int
    targets: Tensor | None


class LossCalls(TorchFunctionMode):
    """Within its block: each cross-entropy through which gradients flow, and what is wrong with its scores.

    Paused while an optimizer steps, which reads attributes of each parameter many times; not where the step takes a
    closure, which computes the loss.
    """

    def __init__(self, report: Report | None) -> None:
        super().__init__()
        self._pause = torch._C.DisableTorchFunction()
        self._is_paused = False
        self.calls: list[LossCall] = []
        self.has_log_softmax_twice = False
        self.report = report or Report()
        self._last: tuple[Any, Any] | None = None

    def __enter__(self) -> "LossCalls":
        self._hooks = [
            register_optimizer_step_pre_hook(self._pause_for_step),
            register_optimizer_step_post_hook(self._resume),
        ]
        super().__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._resume()
        for hook in self._hooks:
            hook.remove()
        super().__exit__(*exception)

    def _pause_for_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
        has_closure = any(value is not None and value is not optimizer for value in (*args, *kwargs.values()))
        if not self._is_paused and not has_closure and all(type(one) in (Tensor, nn.Parameter) for one in parameters):
            self._pause.__enter__()
            self._is_paused = True

    def _resume(self, *_: Any) -> None:
        if self._is_paused:
            self._is_paused = False
            self._pause.__exit__(None, None, None)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func not in _LOSSES:  # such as each look at an attribute of a tensor
            return func(*args, **(kwargs or {}))
        if func not in BINARY and len(args) > 1:
            self._last = args[0], args[1]
        result = func(*args, **(kwargs or {}))
        if result.requires_grad and not torch.compiler.is_compiling():  # without gradients, a metric calls it
            self._look(func, result.detach(), args[0], args[1], (kwargs or {}).get("reduction", "mean"))
        return result

    def _look(self, func: Callable[..., Any], result: Tensor, scores: Tensor, targets: Tensor, reduction: str) -> None:
        is_binary, name = func in BINARY, func.__name__
        classes = 2 if is_binary else scores.shape[min(1, scores.dim() - 1)]
        count = scores.numel() // (1 if is_binary else max(classes, 1))
        try:
            value = float(result.float().sum()) / (1 if reduction == "mean" else max(count, 1))
            problem = _problem_with(name, scores, classes)
            self.has_log_softmax_twice |= name == "cross_entropy" and not problem and _is_log_softmax(scores)
        except RuntimeError:
            return  # within torch.func.vmap tensors have no values
        if problem:
            self.report.problem(f"trainer.train_step: {problem}")
        has_indices = not is_binary and not targets.is_floating_point()
        self.calls.append(LossCall(name, value, classes, targets.detach() if has_indices else None))

    def hints(self) -> list[str]:
        """What the last call, which may have failed, had wrong with its targets."""
        scores, targets = self._last or (None, None)
        if (
            not isinstance(scores, Tensor)
            or not isinstance(targets, Tensor)
            or scores.dim() < 2
            or targets.is_floating_point()
            or not targets.numel()
        ):
            return []
        wrong = targets[(targets != IGNORED) & ((targets < 0) | (targets >= scores.shape[1]))]
        return [_out_of_range(targets, scores.shape[1])] if wrong.numel() else []


def check_targets(batches: Mapping[str, Batches], losses: LossCalls, batch: Any) -> None:
    """Look at the class numbers of all samples, where the data sets keep them.

    Raises:
        UserError: there is one that the loss does not know.
    """
    classes = _classes(losses.calls, batch)
    if classes is None:
        return
    for split, own in batches.items():
        targets = targets_of(own.dataset)
        if targets is None or not targets.numel():
            continue
        wrong = ((targets != IGNORED) & ((targets < 0) | (targets >= classes))).nonzero().flatten()
        if wrong.numel():
            where = f"dataset: {split} sample {int(wrong[0])} has the target {int(targets[wrong[0]])}. "
            raise UserError(where + _out_of_range(targets, classes))


def _out_of_range(targets: Tensor, classes: int) -> str:
    known = targets[targets != IGNORED]
    low, high = int(known.min()), int(known.max())
    found = f"The targets are from {low} to {high}, and the model returns {classes} scores for each sample: "
    if low != 0 and high - low < classes:
        change = f"subtract {low}" if low > 0 else f"add {-low}"
        return f"{found}class numbers start at 0. In the data set, {change}."
    start = " and class numbers that start at 0" * (low < 0)
    return f"{found}class numbers must be from 0 to {classes - 1}, so it needs {high - min(low, 0) + 1} scores{start}."


def check_loss(trainer: BaseTrainer, batches: Iterable[Counted], report: Report) -> int | None:
    """Make the first steps. How many classes the loss tells apart, if its targets are those of the batches."""
    classes, has_log_softmax_twice = None, False
    for number, batch in enumerate(batches):
        losses = LossCalls(report)
        with losses, LossWatch(trainer, report, batch[1]):
            result = step_on(trainer, batch)
        has_log_softmax_twice |= losses.has_log_softmax_twice
        if number == 0:
            _describe(trainer, result, losses.calls, report)
            classes = _classes(losses.calls, batch[0])
    if has_log_softmax_twice:
        report.note(
            "log_softmax stands before cross_entropy, which has one inside: the result is the same, and one of them "
            "can go, or cross_entropy can be nll_loss"
        )
    return classes


def _describe(trainer: BaseTrainer, result: StepResult, calls: list[LossCall], report: Report) -> None:
    means = {name: as_number(value, name) for name, value in result.means.items()}
    for call in {(call.name, call.classes): call for call in reversed(calls)}.values():
        chance = f"ln {call.classes} = {log(max(call.classes, 1)):.4f} by chance"
        report.row("initial loss", f"{call.name} {call.value:.4f}; {chance}")
    if not calls and means:
        report.row("initial loss", ", ".join(f"{name} {value:.4f}" for name, value in means.items()))
    ignored = trainer.metrics.functions
    wrong = [f"{name} is {value}" for name, value in means.items() if not isfinite(value) and name not in ignored]
    if wrong and trainer.watch.stops:
        report.problem(
            f"trainer.train_step: in the first step {', '.join(wrong)}. Look for it with "
            "torch.autograd.set_detect_anomaly(True), or for inputs that are not finite."
        )


def _classes(calls: list[LossCall], batch: Any) -> int | None:
    """Of the one loss that compares with the second element of the batch, as it is."""
    if not isinstance(batch, (tuple, list)) or len(batch) < 2 or not isinstance(batch[1], Tensor):
        return None
    found = {
        call.classes for call in calls if call.targets is not None and torch.equal(call.targets.cpu(), batch[1].cpu())
    }
    return found.pop() if len(found) == 1 else None


# ---- what stands before a loss ----


def _problem_with(name: str, scores: Tensor, classes: int) -> str:
    if name == "binary_cross_entropy_with_logits" and _comes_from(scores, _PROBABILITIES):
        return f"a sigmoid stands before {name}, which has one inside. Leave it out, or write binary_cross_entropy."
    if name.startswith("binary"):
        return ""
    if classes == 1:
        return (
            f"{name} over one class is 0 whatever the model says. Give the model an output for each class, or write "
            "binary_cross_entropy_with_logits."
        )
    is_softmax = _is_softmax(scores)
    if is_softmax and name == "cross_entropy" and not _is_constant(scores):
        return (
            "softmax twice: it stands before cross_entropy, which has one inside. Leave it out of the model, whose "
            "outputs must be logits."
        )
    if is_softmax and name == "nll_loss":
        return "probabilities reach nll_loss, which takes their logarithms. Write log_softmax in the place of softmax."
    if name == "nll_loss" and bool((_rows(scores).logsumexp(dim=-1).abs() > NOT_ONE).any()):
        return (
            "what reaches nll_loss are no log-probabilities: their exponentials do not sum to 1. Write log_softmax at "
            "the model's end, or cross_entropy in the place of nll_loss."
        )
    return ""


def _is_softmax(scores: Tensor) -> bool:
    rows = _rows(scores)
    is_one = (rows.sum(dim=-1) - 1).abs() < _tolerance(scores)
    return bool((rows >= 0).all() & is_one.all())


def _is_log_softmax(scores: Tensor) -> bool:
    return not _is_constant(scores) and bool((_rows(scores).logsumexp(dim=-1).abs() < _tolerance(scores)).all())


def _is_constant(scores: Tensor) -> bool:
    """Whether all samples look alike, as a last layer of zeros makes them: their sum may be a coincidence then."""
    rows = _rows(scores)
    return bool((rows == (rows[:1] if len(rows) > 1 else rows[:1, :1])).all())


def _tolerance(scores: Tensor) -> float:
    return 1e-4 if scores.dtype in (torch.float32, torch.float64) else 0.03


def _rows(scores: Tensor) -> Tensor:
    """Some of the scores, as (rows, classes)."""
    if scores.dim() < 2:
        return scores.detach().float()[None]
    if scores.dim() == 2:
        return scores.detach()[:MOST_ROWS].float()
    few = scores.detach()[:MOST_EACH].flatten(2)
    return few[:, :, :: 1 + few.shape[2] // MOST_EACH].movedim(1, -1).flatten(0, 1).float()


def _comes_from(tensor: Tensor, names: set[str]) -> bool:
    """Whether autograd has one of these functions right behind it. The numbers alone do not tell: small logits of an
    untrained model may lie between 0 and 1, too."""
    node: Any = tensor.grad_fn
    while node is not None:
        name = re.sub(r"Backward\d*$", "", node.name())
        if name in names:
            return True
        node = node.next_functions[0][0] if name in _ONLY_MOVES else None
    return False
