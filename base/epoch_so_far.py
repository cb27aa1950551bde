"""What an epoch under way has come to: with it, a checkpoint within an epoch is as good as one between two."""

import logging
from dataclasses import dataclass, field
from typing import Any

from logger.means import RunningMeans
from logger.metrics import Metrics
from utils.checkpoints.plain import named_numbers
from utils.distributed.processes import is_first

log = logging.getLogger(__name__)


@dataclass
class EpochSoFar:
    """`learning_rates`: at its beginning. `trained`: its training values, once that phase is over.

    `metrics`: what the metric objects had seen when it was saved, to be given to them when the phase goes on.
    """

    learning_rates: dict[str, float]
    steps: int = 0
    means: RunningMeans = field(default_factory=RunningMeans)
    trained: dict[str, Any] | None = None
    metrics: dict[str, Any] | None = None

    def state_dict(self, metrics: Metrics) -> dict[str, Any]:
        """Its state, and that of the metric objects while they look at the training phase."""
        return {
            "learning_rates": self.learning_rates,
            "steps": self.steps,
            "means": self.means.state_dict(),
            "trained": self.trained,
            "metrics": metrics.state_dict() if self.trained is None else None,
        }


def epoch_so_far(state: dict[str, Any]) -> EpochSoFar:
    """The epoch that `EpochSoFar.state_dict` told of."""
    means = RunningMeans()
    means.load_state_dict(state["means"])
    steps, trained, metrics = state["steps"], state["trained"], state["metrics"]
    if type(steps) is not int or not (metrics is None or isinstance(metrics, dict)):
        raise TypeError("it has something other than a number of steps and states of metrics")
    rates = named_numbers(state["learning_rates"])
    return EpochSoFar(rates, steps, means, None if trained is None else named_numbers(trained), metrics)


def joined(states: list[dict[str, Any]], metrics: Metrics) -> dict[str, Any]:
    """What several processes had, as one of another number of them goes on from it: the first has all that was seen,
    the others nothing."""
    if not states[0] or states[0]["trained"] is not None:
        return states[0]
    totals = [total for state in states for total in state["means"]["totals"]] if is_first() else []
    seen = metrics.joined([state["metrics"] for state in states]) if is_first() else None
    return states[0] | {"means": {"totals": totals}, "metrics": seen}
