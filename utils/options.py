"""The run's own settings: every key of a config that names no class or function, its default and its meaning."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from utils.errors import ConfigError


@dataclass(frozen=True)
class RunOptions:
    """The keys of the config's `trainer` section beside `type` and `args`.

    epochs: how many epochs to train in all.
    epoch_steps: batches in an epoch; None for one pass over the training set.
    valid_steps: batches of the validation in an epoch, always the first ones; None for all.
    save_dir: where run directories are made, relative to the project.
    save_period: epochs between checkpoints; the best and the last are saved whatever it is.
    save_steps, save_minutes: steps, and minutes, between checkpoints within an epoch; None for none.
    keep_last: how many `checkpoint-epochN.pth`, and `checkpoint-stepN.pth`, to keep; None for all.
    on_save_error: what to do when a checkpoint cannot be written: "warn" and try again at the next, or "stop".
    on_non_finite: what to do when a loss or gradient is infinite or not a number: "stop", or "warn" and go on.
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
    valid_steps: int | None = None
    save_dir: str = "saved/"
    save_period: int = 1
    save_steps: int | None = None
    save_minutes: float | None = None
    keep_last: int | None = 3
    on_save_error: str = "warn"
    on_non_finite: str = "stop"
    monitor: str = "off"
    min_delta: float = 0.0
    early_stop: int | None = None
    log_steps: int = 20
    tensorboard: bool = True
    histogram_period: int | None = None

    def __post_init__(self) -> None:
        mistakes = _whole_number_mistakes(
            "trainer",
            self,
            epochs=1,
            epoch_steps=1,
            valid_steps=1,
            save_period=1,
            save_steps=1,
            keep_last=0,
            early_stop=1,
            log_steps=1,
            histogram_period=1,
        )
        if not _is_number(self.min_delta) or not self.min_delta >= 0:
            mistakes.append(f"trainer.min_delta: found {self.min_delta!r}. Write a number of at least 0.")
        if self.save_minutes is not None and not (_is_number(self.save_minutes) and self.save_minutes > 0):
            mistakes.append(f"trainer.save_minutes: found {self.save_minutes!r}. Write a number above 0 or null.")
        for name in ("on_save_error", "on_non_finite"):
            if getattr(self, name) not in ("warn", "stop"):
                mistakes.append(f"trainer.{name}: found {getattr(self, name)!r}. Choices: stop, warn.")
        if not isinstance(self.save_dir, str):
            mistakes.append(f"trainer.save_dir: found {self.save_dir!r}. Write a path.")
        if not isinstance(self.tensorboard, bool):
            mistakes.append(f"trainer.tensorboard: found {self.tensorboard!r}. Write true or false.")
        try:
            parse_monitor(self.monitor)
        except ConfigError as error:
            mistakes += error.mistakes
        if self.monitor == "off" and self.early_stop is not None:
            mistakes.append("trainer.early_stop: needs a value to follow, but trainer.monitor is off.")
        if mistakes:
            raise ConfigError(*mistakes)


@dataclass(frozen=True)
class LoaderOptions:
    """The keys of the config's `data_loader` section.

    batch_size: samples in a batch; None only for an iterable data set that gives whole batches itself.
    shuffle: None for "yes, unless there is a sampler". Like `drop_last`, for training alone: the other splits are read
        in order, and whole.
    sampler, batch_sampler: for training alone; called with those of data_source, dataset, generator, batch_size that
        they take.
    pin_memory: None for "where there is a GPU".
    timeout: seconds to wait for a batch from workers; None for ten minutes, 0 for ever.
    num_workers, prefetch_factor, persistent_workers, multiprocessing_context: as in torch's DataLoader.

    Raises:
        ConfigError: values that cannot be, all of them.
    """

    batch_size: int | None = None
    shuffle: bool | None = None
    drop_last: bool = False
    sampler: Callable[..., Any] | None = None
    batch_sampler: Callable[..., Any] | None = None
    num_workers: int = 0
    pin_memory: bool | None = None
    prefetch_factor: int | None = None
    persistent_workers: bool = False
    timeout: float | None = None
    multiprocessing_context: str | None = None

    def __post_init__(self) -> None:
        mistakes = _whole_number_mistakes("data_loader", self, batch_size=1, num_workers=0, prefetch_factor=1)
        for name in ("shuffle", "drop_last", "persistent_workers", "pin_memory"):
            value = getattr(self, name)
            if not isinstance(value, bool) and not (value is None and name in ("shuffle", "pin_memory")):
                mistakes.append(f"data_loader.{name}: found {value!r}. Write true or false.")
        seconds = self.timeout or 0.0
        if not _is_number(seconds) or not seconds >= 0 or (seconds and not self.num_workers):
            mistakes.append(f"data_loader.timeout: found {self.timeout!r}. Write seconds; 0 without workers.")
        for name in ("sampler", "batch_sampler"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                mistakes.append(f'data_loader.{name}: found {value!r}. Write {{"type": NAME, "args": {{...}}}}.')
        chosen = [name for name in ("shuffle", "sampler", "batch_sampler") if getattr(self, name)]
        chosen += ["drop_last"] if self.drop_last and self.batch_sampler else []
        if len(chosen) > 1:
            mistakes.append(f"data_loader: {' and '.join(chosen)} exclude each other.")
        if mistakes:
            raise ConfigError(*mistakes)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def parse_monitor(rule: Any) -> tuple[str, str]:
    """The mode ("min", "max" or "off") and the name that a rule such as "min val_loss" says.

    Raises:
        ConfigError: it is no rule.
    """
    words = rule.split() if isinstance(rule, str) else []
    if words == ["off"]:
        return "off", ""
    if len(words) == 2 and words[0] in ("min", "max"):
        return words[0], words[1]
    raise ConfigError(f"trainer.monitor: {rule!r} is no rule. Choices: 'min NAME', 'max NAME', 'off'.")


def _whole_number_mistakes(section: str, options: Any, **least: int) -> list[str]:
    """A line for each option that is no whole number of at least so much, nor null where its type allows that."""
    mistakes = []
    for name, smallest in least.items():
        value, may_be_null = getattr(options, name), type(options).__annotations__[name] == int | None
        is_whole = isinstance(value, int) and not isinstance(value, bool) and value >= smallest
        if not is_whole and not (may_be_null and value is None):
            allowed = f"a whole number of at least {smallest}{' or null' * may_be_null}"
            mistakes.append(f"{section}.{name}: found {value!r}. Write {allowed}.")
    return mistakes
