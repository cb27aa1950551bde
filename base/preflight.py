"""What a run checks before it starts, so that nothing fails after hours that could have failed at once."""

from copy import deepcopy

import torch
from torch import nn

from base.base_trainer import BaseTrainer
from base.lr_schedule import LRSchedule
from logger.metrics import scalars_and_matrices
from logger.tables import VALID
from utils.checkpoint import check_plain
from utils.errors import ConfigError, closest
from utils.seed import rng_state, set_rng_state

RESERVED = ("format", "epoch", "step", "monitor", "batches", "rng", "config")


def check_before_training(trainer: BaseTrainer) -> None:
    """Score one validation batch, and make sure that what the config follows will be there.

    Raises:
        ConfigError: no value has the monitored name; a scheduler cannot do what it is asked.
    """
    options, batches = trainer.run.options, trainer.run.batches["train"]
    for schedule in trainer.parts(LRSchedule).values():
        schedule.check(trainer.monitor, options.epochs, options.epoch_steps or batches.steps_per_pass())
    for name, part in trainer.stateful().items():
        if name in RESERVED:
            raise ConfigError(
                f"{type(trainer).__name__}.stateful: {name!r} is a key of the run's own. Choose another name."
            )
        if not isinstance(part, nn.Module):
            check_plain(name, part.state_dict())
    rng = rng_state()
    names = {VALID + name for name in _names_in_validation(trainer)}
    if trainer.monitor.is_on and not trainer.monitor.name.startswith(VALID):
        names |= _names_in_training(trainer)
    set_rng_state(rng)
    if trainer.monitor.is_on and trainer.monitor.name not in names:
        missing, reason = trainer.monitor.name, "" if "valid" in trainer.run.batches else " There is no validation set."
        raise ConfigError(f"trainer.monitor: no value is named {missing!r}.{reason} {closest(missing, names)}")


def _names_in_validation(trainer: BaseTrainer) -> set[str]:
    if "valid" not in trainer.run.batches:
        return set()
    trainer.set_training(False)
    with torch.no_grad():
        result = trainer.valid_step(_first_batch(trainer, "valid"))
    return set(result.means) | _names_of_metric_objects(trainer)


def _names_in_training(trainer: BaseTrainer) -> set[str]:
    """Only a step knows what it returns: make one, and undo it."""
    stateful = trainer.stateful()
    before = deepcopy({name: part.state_dict() for name, part in stateful.items()})
    trainer.set_training(True)
    result = trainer.train_step(_first_batch(trainer, "train"))
    for name, part in stateful.items():
        part.load_state_dict(before[name])
    return set(result.means) | _names_of_metric_objects(trainer)


def _names_of_metric_objects(trainer: BaseTrainer) -> set[str]:
    values = scalars_and_matrices(trainer.metrics.compute())
    trainer.metrics.reset()
    return {name for name, value in values.items() if isinstance(value, float)}


def _first_batch(trainer: BaseTrainer, split: str) -> object:
    batches = trainer.run.batches[split]
    position = batches.state_dict()
    batch = trainer.run.devices.move(next(batches.epoch(1)))
    batches.load_state_dict(position)
    return batch
