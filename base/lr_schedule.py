"""When a learning rate scheduler steps, and what it is told."""

import logging
import math
import warnings
from collections.abc import Iterator
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau, SequentialLR

from base.monitor import Monitor
from utils.errors import ConfigError
from utils.frames import own_line

log = logging.getLogger(__name__)
EPOCH, STEP = "epoch", "step"
SLACK = 0.1  # of a run's steps, by which a schedule may be longer or shorter
MOST_TRIED = 1000
ROUNDING = 1e-12  # a cosine may end a little below 0


class LRSchedule:
    """Any torch scheduler, stepped after each epoch or each step; none at all is one that does nothing.

    Raises:
        ConfigError: `interval` does not suit the scheduler.
    """

    def __init__(self, scheduler: LRScheduler | None = None, interval: str = EPOCH):
        if interval == STEP and isinstance(scheduler, ReduceLROnPlateau):
            raise ConfigError("lr_scheduler.interval: ReduceLROnPlateau follows a value of each epoch. Choices: epoch.")
        self.scheduler = scheduler
        self.interval = interval

    def check(self, monitor: Monitor, epochs: int, steps_per_epoch: int | None) -> None:
        """Raise `ConfigError` for what would only show in the middle of the run."""
        if isinstance(self.scheduler, ReduceLROnPlateau):
            if not monitor.is_on:
                raise ConfigError(
                    "lr_scheduler: ReduceLROnPlateau follows trainer.monitor, which is off. Name a value there."
                )
            if self.scheduler.mode != monitor.mode:
                raise ConfigError(
                    f"lr_scheduler.args.mode: {self.scheduler.mode!r}, but trainer.monitor is "
                    f'\'{monitor.mode} {monitor.name}\'. Write "mode": "{monitor.mode}".'
                )
        planned = self._planned(epochs, steps_per_epoch)
        for scheduler, steps in _steps_of_each(self.scheduler, planned) if planned else ():
            possible = getattr(scheduler, "total_steps", None)  # OneCycleLR raises past its end
            if possible and steps > possible:
                raise ConfigError(
                    f"lr_scheduler.args: {type(scheduler).__name__} ends after {possible} steps, "
                    f"but the run steps it {steps} times, once each {self.interval}."
                )
            if advice := _length_advice(scheduler, steps):
                log.warning("lr_scheduler.args: %s", advice)

    def _planned(self, epochs: int, steps_per_epoch: int | None) -> int | None:
        """How often the run steps it; None where only the end tells."""
        return epochs if self.interval == EPOCH else epochs * steps_per_epoch if steps_per_epoch else None

    def try_out(self, epochs: int, steps_per_epoch: int | None) -> None:
        """Move as the run would, or its first steps where they are very many; nothing is put back here.

        Raises:
            ConfigError: the scheduler fails on its way, or what it leads to is no learning rate.
        """
        steps = min(self._planned(epochs, steps_per_epoch) or 1, MOST_TRIED)
        number = 0
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                while self.scheduler is not None and number < steps:
                    number += 1
                    self._step(0.0)
                    rates = [float(group["lr"]) for group in self.scheduler.optimizer.param_groups]
                    if wrong := [rate for rate in rates if not -ROUNDING <= rate < math.inf]:
                        raise ValueError(f"the learning rate is {wrong[0]:g}")
        except (ArithmeticError, ValueError, TypeError, LookupError, RuntimeError, NameError, AttributeError) as error:
            name, reason = type(self.scheduler).__name__, " ".join(f"{type(error).__name__}: {error}".split())
            where = f" ({line})" if (line := own_line(error)) else ""
            raise ConfigError(f"lr_scheduler.args: {name} fails at step {number}: {reason}{where}.") from error

    def on_step(self) -> None:
        if self.scheduler is not None and self.interval == STEP:
            self.scheduler.step()

    def on_epoch_end(self, monitored: float | None) -> None:
        if self.scheduler is None or self.interval == STEP:
            return
        self._step(monitored)

    def _step(self, monitored: float | None) -> None:
        if isinstance(self.scheduler, ReduceLROnPlateau):
            if monitored is not None:  # an epoch may lack it
                self.scheduler.step(monitored)
        elif self.scheduler is not None:
            self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        return self.scheduler.state_dict() if self.scheduler is not None else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state)
            self.scheduler.optimizer._opt_called = True  # type: ignore[attr-defined]  # before the checkpoint, or torch warns


def _length_advice(scheduler: Any, steps: int) -> str:
    """What is wrong with the length of a schedule that has one, for a run that steps it so often; "" if nothing."""
    name = type(scheduler).__name__
    argument = {"CosineAnnealingLR": "T_max", "PolynomialLR": "total_iters", "OneCycleLR": "total_steps"}.get(name, "")
    length = getattr(scheduler, argument, None)
    if not isinstance(length, (int, float)) or abs(length - steps) <= max(1, SLACK * steps):
        return ""
    if length > steps:
        what = "the learning rate does not come down to its end"
    else:
        what = "the learning rate rises again" if name == "CosineAnnealingLR" else "the learning rate stays at its end"
    return f"{name} has {argument} {length:g}, but the run steps it {steps} times: {what}. Write {argument} {steps}."


def _steps_of_each(scheduler: Any, steps: int) -> Iterator[tuple[Any, int]]:
    """A scheduler and those within it, each with how often it is stepped; a sequence steps one after the other."""
    yield scheduler, steps
    starts = [0, *scheduler._milestones, steps] if isinstance(scheduler, SequentialLR) else []
    for i, inner in enumerate(getattr(scheduler, "_schedulers", ())):
        yield from _steps_of_each(inner, min(starts[i + 1], steps) - starts[i] if starts else steps)


def learning_rates(optimizers: dict[str, Optimizer]) -> dict[str, float]:
    """`lr` for the first group of `optimizer`; `lr_NAME`, `lr_NAME_1` for other optimizers and groups."""
    rates = {}
    for name, optimizer in optimizers.items():
        for i, group in enumerate(optimizer.param_groups):
            parts = ["lr", *([name] if name != "optimizer" else []), *([str(i)] if i else [])]
            rates["_".join(parts)] = float(group["lr"])
    return rates
