"""Come again to the step at which a run met what is not finite, and say where in it that begins."""

import json
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from base.base_trainer import BaseTrainer
from base.checkpoints import Checkpoints, State
from base.checks.anomaly import BackwardError, explained_backward
from base.finite import NonFinite
from logger.writers import Writers
from utils.batch import tensors
from utils.checkpoints.run_dir import FAILURE
from utils.errors import RunError, UserError
from utils.paths import shown_path, usable_path

log = logging.getLogger(__name__)
NOTHING = "All is finite up to step {step} this time. Was it another device, or other versions or settings?"


def replay(trainer: BaseTrainer, run: str) -> None:
    """Train on from the last good checkpoint up to the failing step, writing nothing, and look into that step.

    Raises:
        UserError: the run has met nothing of the kind.
        RunError: it has, but this time all is finite.
    """
    run_dir = path if (path := usable_path(run)).is_dir() else path.parent
    try:
        record = json.loads((run_dir / FAILURE).read_text(encoding="utf-8"))
        step, name = record["step"], record["name"]
        if type(step) is not int or step >= 2**63:
            raise ValueError
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        raise UserError(f"{shown_path(run_dir)}: has no {FAILURE}: the run has met nothing to repeat.") from None
    log.info("Training from step %d to step %d, where %s was not finite.", trainer.step, step, name)
    magnifier = _Magnifier(trainer)
    trainer.watch.stops = True  # whatever the config says
    try:
        with explained_backward():
            trainer.train(_Replay(trainer.step, step, magnifier), Writers())
            raise RunError(NOTHING.format(step=trainer.step))
    except NonFinite as failure:
        found = magnifier.found or f"every module's output is finite, so it begins after them: {failure}"
        step = failure.record["step"]
    except BackwardError as failure:
        found = magnifier.found or str(failure)
        step = trainer.step + 1
    finally:
        magnifier.put_away()
    log.info("Step %d: %s", step, found)


class _Replay(Checkpoints):
    """Saves nothing. Looks at each step at once, and takes the magnifier for the last one."""

    def __init__(self, at: int, last: int, magnifier: "_Magnifier"):
        self._last = last
        self._magnifier = magnifier
        self._prepare(at)

    def _prepare(self, step: int) -> None:
        if step == self._last:
            raise RunError(NOTHING.format(step=step))
        if step >= self._last - 2:  # what spoils the weights in one step is in the loss of the next
            self._magnifier.take()

    def end_step(self, state: State, step: int) -> None:
        state()  # raises what is not finite
        self._prepare(step)

    def end_epoch(self, state: State, epoch: int, is_best: bool, is_end: bool) -> bool:
        return True

    def check_lock(self) -> None:
        """Nothing is written, whoever trains there."""

    def close(self) -> None:
        """Nothing is under way."""

    def interrupt(self, state: State, step: int, reason: Any) -> None:
        log.info("Stopped; nothing was written.")

    def record(self, failure: NonFinite) -> None:
        log.info("Again: %s", failure)


class _Magnifier:
    """Looks at what goes into each module and comes out of it in training, and at each gradient. `found`: the first
    place that is not finite."""

    def __init__(self, trainer: BaseTrainer):
        self._modules = {
            f"{key}.{name}".rstrip("."): module
            for key, whole in trainer.parts(nn.Module).items()
            for name, module in whole.named_modules()
        }
        self._put_away: list[Callable[[], None]] = []
        self.found = ""

    def take(self) -> None:
        if self._put_away:
            return
        torch.autograd.set_detect_anomaly(True)
        for name, module in self._modules.items():
            before = module.register_forward_pre_hook(self._look_before(name), with_kwargs=True)
            after = module.register_forward_hook(self._look_after(name))
            self._put_away += [before.remove, after.remove]

    def put_away(self) -> None:
        torch.autograd.set_detect_anomaly(False)
        for remove in self._put_away:
            remove()

    def _look_before(self, name: str) -> Callable[..., None]:
        def look(module: nn.Module, args: Any, kwargs: Any) -> None:
            if module.training and not self.found and not _is_finite((args, kwargs)):
                self.found = f"what goes into {name} ({type(module).__name__}) is not finite{_extent((args, kwargs))}"

        return look

    def _look_after(self, name: str) -> Callable[..., None]:
        def look(module: nn.Module, args: Any, output: Any) -> None:
            if module.training and not self.found and not _is_finite(output):
                self.found = (
                    f"the first output that is not finite is that of {name} ({type(module).__name__})"
                    f"{_extent(output)}; what went in was finite{_extent(args)}"
                )

        return look


def _is_finite(value: Any) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors(value))


def _extent(value: Any) -> str:
    """How many numbers are not finite, and how large the others are."""
    numbers = [tensor.detach().flatten().float() for tensor in tensors(value)]
    if not numbers:
        return ""
    flat = torch.cat(numbers)
    finite = flat[torch.isfinite(flat)]
    most = f", the others up to {finite.abs().max():.3g}" if finite.numel() else ""
    return f" ({flat.numel() - finite.numel()} of {flat.numel()} numbers are not{most})"
