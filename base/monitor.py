"""The best value so far, and when to give up waiting for a better one."""

import logging
import math
from typing import Any

from logger.tables import value_table
from utils.checkpoints.plain import named_numbers
from utils.config.options import parse_monitor

log = logging.getLogger(__name__)
OFF = "off"


class Monitor:
    """Follows one value of each epoch. Only a strictly better one counts, by more than `min_delta`, and a finite one.

    `rule`: "min NAME", "max NAME" or "off". `early_stop`: epochs without an improvement after which to stop, or None.

    Raises:
        ConfigError: the rule is none of these.
    """

    def __init__(self, rule: str = OFF, min_delta: float = 0.0, early_stop: int | None = None):
        self.mode, self.name = parse_monitor(rule)
        self.min_delta = min_delta
        self.early_stop = early_stop
        self.forget()

    def forget(self) -> None:
        """Begin again, as if no epoch had been seen."""
        self.best_values: dict[str, float] = {}  # all values of the best epoch; empty before there is one
        self.epochs_without_improvement = 0

    @property
    def best(self) -> float | None:
        return self.best_values.get(self.name)

    @property
    def best_epoch(self) -> int | None:
        return int(self.best_values["epoch"]) if "epoch" in self.best_values else None

    @property
    def is_on(self) -> bool:
        return self.mode != OFF

    @property
    def is_patience_over(self) -> bool:
        return self.early_stop is not None and self.epochs_without_improvement >= self.early_stop

    def update(self, values: dict[str, float]) -> bool:
        """Take in an epoch's values; whether it is the best so far."""
        if not self.is_on:
            return False
        if self.name not in values:
            log.warning("epoch %d has no value named %s: it is not compared.", int(values["epoch"]), self.name)
            return False
        value = values[self.name]
        if not math.isfinite(value):
            log.warning("%s is %s, which is never the best.", self.name, value)
        if self._is_better(value):
            self.best_values, self.epochs_without_improvement = dict(values), 0
            return True
        self.epochs_without_improvement += 1
        return False

    def why_over(self, epoch: int, epochs: int) -> str:
        """Where a run ended, its best epoch, and what would make it go on."""
        end, option = f"epoch {epoch} of {epochs}", "trainer.epochs=N"
        if self.is_patience_over:
            end += f", {self.epochs_without_improvement} in a row without a better {self.name}"
            option = "trainer.early_stop=N"
        best = value_table(self.best_values)
        return f"{end}. To go on: python train.py -r RUN --set {option}" + (f"\nBest epoch:\n{best}" if best else "")

    def _is_better(self, value: float) -> bool:
        if not math.isfinite(value):
            return False
        if self.best is None:
            return True
        gain = self.best - value if self.mode == "min" else value - self.best
        return gain > self.min_delta

    def state_dict(self) -> dict[str, Any]:
        return {
            "mode": self.mode,
            "name": self.name,
            "best": self.best,
            "best_values": self.best_values,
            "epochs_without_improvement": self.epochs_without_improvement,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state; what another rule had found says nothing about this one, and is forgotten."""
        if (state["mode"], state["name"]) != (self.mode, self.name):
            log.warning(
                "trainer.monitor: was '%s %s', is now '%s %s': the best value is forgotten.",
                state["mode"], state["name"], self.mode, self.name,
            )  # fmt: skip
            self.forget()
            return
        self.best_values = named_numbers(state["best_values"])
        self.epochs_without_improvement = int(state["epochs_without_improvement"])
