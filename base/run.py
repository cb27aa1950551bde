"""What surrounds the step: the run's options, and the parts that `train.py` builds for it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from logger.metrics import Metrics
from utils.device import Devices
from utils.errors import ConfigError


@dataclass(frozen=True)
class RunOptions:
    """The keys of the config's `trainer` section beside `type` and `args`.

    epochs: how many epochs to train in all.
    epoch_steps: batches in an epoch; None for one pass over the training set.
    save_dir: where run directories are made, relative to the project.
    save_period: epochs between checkpoints; the best and the last are saved whatever it is.
    keep_last: how many `checkpoint-epochN.pth` to keep; None for all.
    monitor: "min NAME" or "max NAME" of a value of each epoch decides what is best; "off".
    min_delta: by how much a value must be better to count.
    early_stop: epochs without a better value after which the run stops; None for never.
    log_steps: steps between two readings of the loss for the progress bar and TensorBoard.
    tensorboard: whether to write TensorBoard events.
    histogram_period: epochs between histograms of the parameters in TensorBoard; None for none.

    Raises:
        ConfigError: values that cannot be, all of them.
    """

    epochs: int
    epoch_steps: int | None = None
    save_dir: str = "saved/"
    save_period: int = 1
    keep_last: int | None = 3
    monitor: str = "off"
    min_delta: float = 0.0
    early_stop: int | None = None
    log_steps: int = 20
    tensorboard: bool = True
    histogram_period: int | None = None

    def __post_init__(self) -> None:
        mistakes = [
            f"trainer.{name}: found {value!r}. Write a whole number of at least {least}{' or null' * optional}."
            for name, least, optional in (
                ("epochs", 1, False),
                ("epoch_steps", 1, True),
                ("save_period", 1, False),
                ("keep_last", 0, True),
                ("early_stop", 1, True),
                ("log_steps", 1, False),
                ("histogram_period", 1, True),
            )
            if not _is_whole(value := getattr(self, name), least) and not (optional and value is None)
        ]
        if not isinstance(self.min_delta, (int, float)) or not self.min_delta >= 0:
            mistakes.append(f"trainer.min_delta: found {self.min_delta!r}. Write a number of at least 0.")
        if not isinstance(self.save_dir, str):
            mistakes.append(f"trainer.save_dir: found {self.save_dir!r}. Write a path.")
        if not isinstance(self.tensorboard, bool):
            mistakes.append(f"trainer.tensorboard: found {self.tensorboard!r}. Write true or false.")
        if self.monitor == "off" and self.early_stop is not None:
            mistakes.append("trainer.early_stop: needs a value to follow, but trainer.monitor is off.")
        if mistakes:
            raise ConfigError(*mistakes)


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


class Batches(Protocol):
    """The batches of a split, pass after pass; `data_loader.loaders.Batches` is one."""

    def steps_per_pass(self) -> int | None:
        """Batches in a pass; None where only the end tells (iterable data sets)."""

    def epoch(self, steps: int | None = None) -> Iterator[Any]:
        """The next `steps` batches, or one pass."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


@dataclass(frozen=True)
class Run:
    """Everything around the step. `batches` has an entry for each split that has samples."""

    options: RunOptions
    batches: Mapping[str, Batches]
    metrics: Metrics = field(default_factory=Metrics)
    devices: Devices = field(default_factory=Devices)
    seed: int = 0
