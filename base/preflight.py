"""What a run checks before it starts, so that nothing fails after hours that could have failed at once."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from base.base_trainer import BaseTrainer, StepResult
from base.lr_schedule import LRSchedule
from base.step_option import StepOption
from base.tools.anomaly import explained_backward
from logger.metrics import scalars_and_matrices
from logger.tables import VALID
from utils.checkpoint import check_plain
from utils.distributed import gather, steps_are_joint, world_size
from utils.errors import BatchError, ConfigError, UserError, closest
from utils.frames import told
from utils.seed import rng_state, set_rng_state
from utils.shards import taken_apart

_NOT_TOLD = [Path(__file__).parent, Path(torch.__file__).parent]
# What a step raises when model, loss and data do not suit each other.
_MISUSES = (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, AssertionError)
RESERVED = ("format", "epoch", "step", "monitor", "batches", "epoch_so_far", "rng", "other_ranks", "config")


def check_before_training(trainer: BaseTrainer) -> None:
    """Score one validation batch, make one training step and undo it, and look for what the config follows.

    Raises:
        ConfigError: no value has the monitored name; a scheduler cannot do what it is asked; a key is taken.
        CheckpointError: a part's state could not be loaded again.
        TypeError: a step returns something else than a `StepResult`.
    """
    _check_stateful(trainer)
    for schedule in trainer.parts(LRSchedule).values():
        schedule.check(trainer.monitor, trainer.run.options.epochs, _steps_per_epoch(trainer))
    rng = rng_state()
    names = {VALID + name for name in _names_in_validation(trainer)} | _names_in_training(trainer)
    names = set().union(*gather(names))
    set_rng_state(rng)
    if trainer.monitor.is_on and trainer.monitor.name not in names:
        missing, reason = trainer.monitor.name, "" if "valid" in trainer.run.batches else " There is no validation set."
        raise ConfigError(f"trainer.monitor: no value is named {missing!r}.{reason} {closest(missing, names)}")


def _steps_per_epoch(trainer: BaseTrainer) -> int | None:
    return trainer.run.options.epoch_steps or trainer.run.batches["train"].steps_per_pass()


def _check_stateful(trainer: BaseTrainer) -> None:
    owner, parts = type(trainer).__name__, trainer.stateful()
    if "model" not in parts:
        raise ConfigError(f"{owner}.stateful: 'model' is missing: the key under which others find the weights.")
    for name, part in parts.items():
        if name in RESERVED:
            raise ConfigError(f"{owner}.stateful: {name!r} is a key of the run's own. Choose another name.")
        if not isinstance(part, nn.Module):
            check_plain(name, taken_apart(part.state_dict())[0])


def _names_in_validation(trainer: BaseTrainer) -> set[str]:
    if "valid" not in trainer.run.batches:
        return set()
    trainer.set_training(False)
    with torch.no_grad():
        return _names_of(trainer, trainer.valid_step, "valid")


def _names_in_training(trainer: BaseTrainer) -> set[str]:
    stateful = trainer.stateful()
    before = deepcopy({name: part.state_dict() for name, part in stateful.items()})
    trainer.set_training(True)
    options = [part for part in vars(trainer).values() if isinstance(part, StepOption) and part.is_on]
    for option in options:
        option.is_used = False
    names = _names_of(trainer, trainer.train_step, "train")
    for option in options:
        if not option.is_used:
            where = f"trainer.args.{option.option}: train_step of {type(trainer).__name__}"
            raise ConfigError(f"{where} does nothing with it. {option.remedy}; or leave it out.")
    for schedule in trainer.parts(LRSchedule).values() if trainer.step == 0 else ():
        schedule.try_out(trainer.run.options.epochs, _steps_per_epoch(trainer))
    for name, part in stateful.items():
        part.load_state_dict(before[name])
    for optimizer in trainer.parts(Optimizer).values():
        optimizer.zero_grad()
    return names


def _names_of(trainer: BaseTrainer, step: Callable[[Any], StepResult], split: str) -> set[str]:
    """The names of the scalars that come out of a step, on the batch that is next in a split."""
    batches = trainer.run.batches[split]
    trainer.metrics.reset()
    try:
        batch = batches.trial()
    except BatchError as error:  # nothing has begun: it is to be mended as a config is
        raise UserError(str(error)) from error
    except ConfigError:
        if world_size() == 1 or split == "train" or steps_are_joint():
            raise
        batch = None  # fewer samples than processes: others have one to try
    try:
        with explained_backward():
            result = trainer.result_of(step, batch) if batch is not None else StepResult({}, 0)
    except _MISUSES as error:
        hint = ' Or say "channels_last": false in the model section.' if "view size is not comp" in str(error) else ""
        raise UserError(f"The first {split} batch fails. {told(error, without=_NOT_TOLD)}{hint}") from error
    if not isinstance(result, StepResult):
        raise TypeError(f"{step.__qualname__} returns a {type(result).__name__}. Return StepResult(means, count).")
    computed = scalars_and_matrices(trainer.metrics.compute())
    _check_metrics(trainer)
    trainer.metrics.reset()
    return set(result.means) | {name for name, value in computed.items() if isinstance(value, float)}


def _check_metrics(trainer: BaseTrainer) -> None:
    """Save the metric objects, which have seen a batch, and load them again: they must say the same."""
    metrics, before = trainer.metrics, deepcopy(trainer.metrics.compute())
    state = deepcopy(metrics.state_dict())
    check_plain("metrics", state)
    metrics.reset()
    metrics.load_state_dict(state, trainer.run.devices.main)
    for name, value in metrics.compute().items():
        if not torch.equal(torch.as_tensor(value).nan_to_num(), torch.as_tensor(before[name]).nan_to_num()):
            raise ConfigError(
                f"metrics: what {name!r} has seen is lost when a run is resumed within an epoch: it is in no attribute "
                "that holds tensors or plain values. Give the class state_dict() and load_state_dict(state)."
            )
