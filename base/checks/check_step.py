"""What a step does with gradients, and which parameters optimizers hold."""

from collections.abc import Collection, Iterable, Iterator
from copy import deepcopy
from math import inf
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from base.base_trainer import BaseTrainer, StepResult
from base.checks.rehearsal import TrainerSnapshot
from base.checks.report import Report, listed
from base.run import Batches

MOST_NUMBERS = 1000  # of a gradient that are compared
TOLERANCE = 1e-3  # relative; the noise of the device is measured beside it

Gradients = list[Tensor]
Counted = tuple[Any, int]  # a batch, and how many samples are in it


class GradientWatch:
    """Within its block: which parameters have got a gradient, and which optimizers have stepped.

    `reached`: the parameters; with the first gradient of each of `kept`, as it was before any clipping.
    """

    def __init__(self, trainer: BaseTrainer, kept: Collection[Tensor] = ()):
        self._parameters = parameters_of(trainer)
        self._kept = kept
        self.reached: dict[Tensor, Tensor | None] = {}
        self.optimizers: dict[Optimizer, None] = dict.fromkeys(trainer.parts(Optimizer).values())
        self.steps = -trainer.step
        self.has_stepped = self.has_moved = False
        self._trainer = trainer

    def __enter__(self) -> "GradientWatch":
        self._handles: list[Any] = [register_optimizer_step_post_hook(lambda optimizer, *_: self._note_step(optimizer))]
        for parameter in self._parameters:
            is_trainable = parameter.requires_grad
            parameter.requires_grad_(True)  # a step may thaw it, and torch hooks into no frozen one
            self._handles.append(parameter.register_post_accumulate_grad_hook(self._note_gradient))
            parameter.requires_grad_(is_trainable)
        return self

    def __exit__(self, *exception: object) -> None:
        self.steps += self._trainer.step
        for handle in self._handles:
            handle.remove()

    def lacking(self) -> list[str]:
        """Parameters without a gradient, of modules of which others have got one."""
        named: list[str] = []
        for key, module in self._trainer.parts(nn.Module).items():
            own = {name: one for name, one in module.named_parameters(prefix=key) if one.requires_grad}
            if any(one in self.reached for one in own.values()):
                named += [name for name, one in own.items() if one not in self.reached]
        return named

    def _note_gradient(self, parameter: Tensor) -> None:
        if parameter not in self.reached:
            assert parameter.grad is not None
            self.reached[parameter] = parameter.grad.detach().clone() if parameter in self._kept else None

    def _note_step(self, optimizer: Optimizer) -> None:
        self.optimizers[optimizer] = None
        self.has_stepped = True
        self.has_moved |= any(parameter.grad is not None for parameter in _held([optimizer]))


def counted(batches: Batches, source: Iterable[Any]) -> list[Counted]:
    """Some batches of a split, each with how many samples are in it."""
    return [(batch, batches.samples) for batch in source]


def step_on(trainer: BaseTrainer, counted: Counted) -> StepResult:
    """A training step, numbered as in a run, that leaves the batch as it is."""
    batch, samples = counted
    result = trainer.result_of(trainer.train_step, deepcopy(batch), samples)
    trainer.step += 1
    return result


def parameters_of(trainer: BaseTrainer) -> dict[Tensor, str]:
    """All parameters of the modules in `stateful`, with their names in the checkpoint."""
    found: dict[Tensor, str] = {}
    for key, module in trainer.parts(nn.Module).items():
        for name, parameter in module.named_parameters(prefix=key):
            found.setdefault(parameter, name)
    return found


# ---- gradients from one step to the next ----


def check_zero_grad(trainer: BaseTrainer, batches: list[Counted], report: Report) -> None:
    """Compare with what gradients optimizers step where the last step left some, and where it did not.

    The same steps are made three times: twice without what is left, which tells the noise, and once with others in its
    place, which turn the first step around: the real ones may be small by clipping, or like those of the next batch.
    """
    snapshot = TrainerSnapshot(trainer)
    all_parameters = parameters_of(trainer)
    left = {one for one in all_parameters if one.grad is not None and one.grad.to_dense().any()}
    first, gradients = _gradients_used(trainer, snapshot, batches, {}, left)
    again, _ = _gradients_used(trainer, snapshot, batches, {})
    opposite = {parameter: -2 * gradient for parameter, gradient in gradients.items() if gradient is not None}
    with_left, _ = _gradients_used(trainer, snapshot, batches, opposite)
    snapshot.put_back()
    noise, difference = _difference(again, first), _difference(with_left, first)
    if difference > max(TOLERANCE, 10 * noise):
        report.row("gradients", "those of one step reach the next")
        report.problem(
            "trainer.train_step: the gradients of one step reach the next. Call optimizer.zero_grad() before "
            "backward(), for each optimizer; gradients that are summed over several steps on purpose are lost when a "
            "run is resumed: sum them over parts of one larger batch, within a step."
        )
    elif noise > TOLERANCE:
        report.row("gradients", "may reach the next step: two steps from the same state differ, so that none can tell")
    else:
        report.row("gradients", "each step has its own")


def _gradients_used(
    trainer: BaseTrainer,
    snapshot: TrainerSnapshot,
    batches: list[Counted],
    grads: dict[Tensor, Tensor],
    kept: Collection[Tensor] = (),
) -> tuple[Gradients, dict[Tensor, Tensor | None]]:
    """With which gradients optimizers step on these batches; where none does, those that are there in the end.

    `grads`: what is there in the beginning. Also gives the first gradient of each of `kept`.
    """
    used: Gradients = []

    def note(optimizer: Optimizer, *_: Any) -> None:
        used.extend(_some_numbers(parameter) for group in optimizer.param_groups for parameter in group["params"])

    snapshot.put_back()
    for parameter, grad in grads.items():
        parameter.grad = grad
    handle = register_optimizer_step_post_hook(note)  # after it, as LBFGS computes gradients within its step
    with GradientWatch(trainer, kept) as watch:
        for batch in batches:
            step_on(trainer, batch)
    handle.remove()
    used = used or [_some_numbers(parameter) for parameter in parameters_of(trainer) if parameter in watch.reached]
    return used, watch.reached


def _some_numbers(parameter: Tensor) -> Tensor:
    """Of its gradient, so that no second one of a large model need be kept."""
    gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.to_dense()
    numbers = gradient.detach().flatten()
    return numbers[:: 1 + numbers.numel() // MOST_NUMBERS].float().nan_to_num().cpu()


def _difference(one: Gradients, other: Gradients) -> float:
    """The distance, relative to the second."""
    if len(one) != len(other):
        return inf
    if not one:
        return 0.0
    first, second = torch.cat(one), torch.cat(other)
    return float((first - second).norm() / second.norm().clamp(min=torch.finfo(torch.float32).tiny))


# ---- parameters and optimizers ----


def check_parameters(trainer: BaseTrainer, gradients: GradientWatch, report: Report) -> None:
    """Compare what has a gradient with what optimizers hold."""
    names = parameters_of(trainer)
    counts: dict[Tensor, int] = {}
    for parameter in _held(gradients.optimizers):
        counts[parameter] = counts.get(parameter, 0) + 1
    learning = {
        parameter
        for module in trainer.parts(nn.Module).values()
        if any(parameter in counts or parameter in gradients.reached for parameter in module.parameters())
        for parameter in module.parameters()  # a whole module at rest is a copy: a teacher, an average of weights
    }
    reached = gradients.reached
    trainable = [parameter for parameter in names if parameter.requires_grad and parameter in learning]
    without = [names[parameter] for parameter in trainable if parameter not in reached]
    report.row("without gradient", f"{listed(without) or 'none'}, in {gradients.steps} steps")
    if frozen := [parameter for parameter in counts if not parameter.requires_grad and parameter not in reached]:
        report.problem(
            f"optimizer: it holds frozen parameters: {listed(names.get(p, _shape_of(p)) for p in frozen)}. Freeze them "
            "before the optimizer is made, and give it those with requires_grad alone."
        )
    homeless = [names[parameter] for parameter in trainable if parameter not in counts]
    if homeless and counts:  # without any optimizer, the step moves them by hand
        report.problem(
            f"optimizer: no optimizer holds {listed(homeless)}, which would never train. Give them to one, or freeze "
            "them: requires_grad_(False)."
        )
    if trainer.parts(Optimizer) and not gradients.has_stepped and report.is_clean:
        report.problem("trainer.train_step: no optimizer moves the weights. Call optimizer.step() after backward().")
    if gradients.has_stepped and not gradients.has_moved:
        report.problem(
            "trainer.train_step: optimizers step without gradients. The order is zero_grad(), backward(), step()."
        )
    if shared := [names.get(p, _shape_of(p)) for p, count in counts.items() if count > 1]:
        report.note(f"more than one optimizer holds {listed(shared)}")


def _held(optimizers: Iterable[Optimizer]) -> Iterator[Tensor]:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            yield from group["params"]


def _shape_of(parameter: Tensor) -> str:
    return f"one of shape {tuple(parameter.shape)}"
