"""The run's own settings: every key of a config that is no argument of a class or function.

Type, default, limits and meaning stand here once; the check, `schema/config.schema.json` and `docs/config.md` are made
from them.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from utils.checkpoints.run_dir import check_name
from utils.config.schemas import misfit, option, schemas_of_options
from utils.errors import ConfigError, shown

Patterns = str | list[str]


class _Checked:
    """Options by name.

    Raises:
        ConfigError: values that cannot be, all of them.
    """

    def __post_init__(self) -> None:
        mistakes = [
            f"{name}: {mistake}"
            for name, schema in schemas_of_options(type(self)).items()
            if (mistake := misfit(schema, getattr(self, name))) and not callable(getattr(self, name))
        ]
        if mistakes := mistakes or self.contradictions():
            raise ConfigError(*mistakes)

    def contradictions(self) -> list[str]:
        """What is wrong where each value by itself is right."""
        return []


@dataclass(frozen=True)
class TopOptions(_Checked):
    """The keys at the top of a config that are no sections."""

    name: str = option("the run's name: its folder below `save_dir`")
    seed: int = option("the one seed of all randomness", 0, minimum=0)
    n_gpu: int = option(
        "how many GPUs one process uses, as far as there are any; 0 for the CPU, two or more for `DataParallel`, which "
        "is slower than `torchrun`. Each of several processes has one, or with 0 none",
        1,
        minimum=0,
    )

    def contradictions(self) -> list[str]:
        mistake = check_name(self.name)
        return [mistake] if mistake else []


@dataclass(frozen=True)
class ModelOptions(_Checked):
    """The keys of the `model` section beside `type` and `args`."""

    init: Callable[..., Any] | None = option(
        "a function of `torch.nn.init`, for the weight of every layer (norms and biases keep torch's)", None, "init"
    )
    weights: str | None = option(
        "what a new run starts with: a run, a checkpoint or a file of weights, relative to the project; or the name of "
        "pretrained weights of torchvision's, such as `DEFAULT`",
        None,
    )
    strict: bool = option("false: weights that do not fit, such as a head for other classes, are named and left", True)
    freeze: Patterns | None = option(
        "patterns of parameters that are not trained: of names (`conv1.*`), or of class and name (`BatchNorm2d.*`). "
        "The running means of a frozen norm still follow the data; to keep them, put it into eval mode in a "
        "`train_step` of your own",
        None,
    )
    channels_last: bool | None = option(
        "whether two-dimensional convolutions keep the channels of a place side by side: mostly faster. A model that "
        "uses `view` after them needs `flatten` or `reshape` in its place. Null: on the CPU, if a trial shows that "
        "the model works so, and that what it gives has no places any more",
        None,
    )


@dataclass(frozen=True)
class OptimizerOptions(_Checked):
    """The keys of the `optimizer` section beside `type` and `args`."""

    groups: list[dict[str, Any]] | None = option(
        'parameters with arguments of their own, each `{"params": PATTERNS, ARGUMENT: VALUE}`; patterns as in '
        "`model.freeze`, and the first group that matches has a parameter",
        None,
    )


@dataclass(frozen=True)
class SchedulerOptions(_Checked):
    """The keys of the `lr_scheduler` section beside `type` and `args`."""

    interval: Literal["epoch", "step"] = option("whether it moves after each epoch or after each step", "epoch")


@dataclass(frozen=True)
class DatasetOptions(_Checked):
    """The keys of the `dataset` section beside `type` and `args`."""

    fold: str | None = option(
        "for cross-validation: `2/5` validates on the second fifth of the samples for training and validation, and "
        "trains on the rest. `--folds 5` makes all five runs",
        None,
    )

    def contradictions(self) -> list[str]:
        fold = re.fullmatch(r"(\d{1,9})/(\d{1,9})", self.fold or "1/2")
        if fold and 1 <= int(fold[1]) <= int(fold[2]) >= 2:
            return []
        return [f"fold: found {shown(self.fold)}. Write a fold and how many there are, such as '2/5'."]


@dataclass(frozen=True)
class MetricOptions(_Checked):
    """The keys of an entry of `metrics` beside `type` and `args`."""

    name: str | None = option("what the log calls it; null for the name of its class or function", None)


@dataclass(frozen=True)
class RunOptions(_Checked):
    """The keys of the `trainer` section beside `type` and `args`."""

    epochs: int = option("how many epochs to train in all", minimum=1)
    epoch_steps: int | None = option("batches in an epoch; null for one pass over the training set", None, minimum=1)
    valid_steps: int | None = option(
        "batches of the validation in an epoch, always the first ones; null for all", None, minimum=1
    )
    save_dir: str = option("where run directories are made, relative to the project", "saved/")
    save_period: int = option(
        "epochs between checkpoints; the best and the last are saved whatever it is", 1, minimum=1
    )
    save_steps: int | None = option("steps between checkpoints within an epoch; null for none", None, minimum=1)
    save_minutes: float | None = option(
        "minutes between checkpoints within an epoch; null for none", None, exclusiveMinimum=0
    )
    keep_last: int | None = option(
        "how many `checkpoint-epochN.pth`, and `checkpoint-stepN.pth`, to keep; null for all", 3, minimum=0
    )
    on_save_error: Literal["stop", "warn"] = option(
        "when a checkpoint cannot be written: warn and try again at the next, or stop", "warn"
    )
    on_non_finite: Literal["stop", "warn"] = option(
        "when a loss or gradient is infinite or not a number: stop, or warn and go on", "stop"
    )
    monitor: str = option(
        "`min NAME` or `max NAME`: the value of each epoch that decides what is best; or `off`", "off"
    )
    min_delta: float = option("by how much a value must be better to count", 0.0, minimum=0)
    early_stop: int | None = option(
        "epochs without a better value after which the run stops; null for never", None, minimum=1
    )
    matmul_precision: Literal["highest", "high", "medium"] = option(
        "of matrix products of float32: `high` lets a GPU use TF32, `medium` bfloat16, where it has them", "highest"
    )
    log_steps: int = option(
        "steps between two readings of the loss for the progress bar and TensorBoard", 20, minimum=1
    )
    tensorboard: bool = option("whether to write TensorBoard events", True)
    histogram_period: int | None = option(
        "epochs between histograms of the parameters in TensorBoard; null for none", None, minimum=1
    )

    def contradictions(self) -> list[str]:
        try:
            mode, _ = parse_monitor(self.monitor)
        except ConfigError as error:
            return [mistake.removeprefix("trainer.") for mistake in error.mistakes]
        if mode == "off" and self.early_stop is not None:
            return ["early_stop: needs a value to follow, but trainer.monitor is off."]
        return []


@dataclass(frozen=True)
class LoaderOptions(_Checked):
    """The keys of the `data_loader` section."""

    batch_size: int | None = option(
        "samples in a batch, of all processes together: each has its part. Null only for an iterable data set that "
        "gives whole batches itself",
        None,
        minimum=1,
    )
    shuffle: bool | None = option(
        "null: yes, unless there is a sampler. Like `drop_last`, for training alone: the other splits are read in "
        "order, and whole",
        None,
    )
    drop_last: bool = option("whether to leave out a last batch that is smaller", False)
    sampler: Callable[..., Any] | None = option(
        "a section; for training alone. Is given those of data_source, dataset, generator, batch_size that it takes",
        None,
        "sampler",
    )
    batch_sampler: Callable[..., Any] | None = option(
        "as `sampler`, but gives the indices of whole batches", None, "sampler"
    )
    num_workers: int | None = option(
        "processes that load batches; 0: the training's own; null: up to 4 beside a GPU where the data set gives "
        "one sample at a time, else none",
        None,
        minimum=0,
        maximum=512,
    )
    pin_memory: bool | None = option("null: where the run uses a GPU", None)
    prefetch_factor: int | None = option(
        "batches that a worker loads ahead; null for torch's 2. For workers alone", None, minimum=1, maximum=1024
    )
    persistent_workers: bool | None = option(
        "whether workers live on from epoch to epoch; null: yes, but for an iterable data set. For workers alone", None
    )
    timeout: float | None = option(
        "seconds to wait for a batch from workers; null for ten minutes, 0 for ever", None, minimum=0, maximum=1_000_000
    )
    multiprocessing_context: Literal["fork", "spawn", "forkserver"] | None = option(
        "how workers start; null for Python's default", None
    )

    def contradictions(self) -> list[str]:
        chosen = [name for name in ("shuffle", "sampler", "batch_sampler") if getattr(self, name)]
        chosen += ["drop_last"] if self.drop_last and self.batch_sampler else []
        mistakes = [f"{chosen[-1]}: excludes {', '.join(chosen[:-1])}. Leave one out."] if len(chosen) > 1 else []
        if self.num_workers == 0:
            for name in ("timeout", "prefetch_factor", "persistent_workers"):
                if value := getattr(self, name):
                    mistakes.append(f"{name}: found {shown(value)}, but there are no workers. Leave it out.")
        return mistakes


NAMES_OF_THE_RUN = ("epoch", "step", "lr", "seconds", "items_per_second", "data_wait_share")


def is_name_of_the_run(name: str) -> bool:
    """Whether an epoch has a value of this name that no step gives."""
    return name in NAMES_OF_THE_RUN or name.startswith("lr_")


def parse_monitor(rule: str) -> tuple[str, str]:
    """The mode ("min", "max" or "off") and the name that a rule such as "min val_loss" says.

    Raises:
        ConfigError: it is no rule.
    """
    words = rule.split(maxsplit=1)  # names may have spaces
    if words == ["off"]:
        return "off", ""
    if len(words) == 2 and words[0] in ("min", "max"):
        return words[0], words[1].strip()
    raise ConfigError(f"trainer.monitor: {rule!r} is no rule. Choices: 'min NAME', 'max NAME', 'off'.")
