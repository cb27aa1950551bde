"""What a run checks before it starts, so that nothing fails after hours that could have failed at once."""

import logging
from collections.abc import Callable
from contextlib import ExitStack
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from base.base_trainer import BaseTrainer, StepResult
from base.checks.anomaly import BackwardError, explained_backward
from base.checks.check_loss import LossCalls, LossWatch, check_targets
from base.checks.check_step import GradientWatch, parameters_of
from base.checks.hints import hints_for
from base.checks.rehearsal import rehearsal
from base.checks.report import Report, listed
from base.lr_schedule import LRSchedule
from base.run import Batches
from logger.means import RunningMeans
from logger.metrics import scalars_and_matrices
from logger.names import checked_values
from logger.tables import VALID
from utils.batch import described, is_batch_first
from utils.checkpoints.plain import plain, restored
from utils.distributed.processes import gather, steps_are_joint, world_size
from utils.distributed.shards import taken_apart
from utils.errors import BadReturn, BatchError, ConfigError, RunError, Stopped, UserError, closest
from utils.frames import told
from utils.modules.step_option import StepOption
from utils.paths import PROJECT_ROOT

log = logging.getLogger(__name__)
_NOT_TOLD = [*(PROJECT_ROOT / room for room in ("base", "logger", "utils")), Path(torch.__file__).parent]
RESERVED = (
    "format",
    "epoch",
    "step",
    "monitor",
    "batches",
    "epoch_so_far",
    "rng",
    "other_ranks",
    "config",
    "shards",
    "parameters",
)
MOST_LINES = 6  # of a message


def check_before_training(trainer: BaseTrainer, warns: bool = True) -> None:
    """Rehearse: score a validation batch and make a training step, each on the first batch and, where it is smaller, on
    the last one. Look for what the config asks for, and take all back.

    `warns`: whether to log what trains badly.

    Raises:
        ConfigError: no value has the monitored name; a scheduler cannot do what it is asked; a key is taken.
        UserError: a step fails, or returns something that the run cannot use; a state could not be read again.
    """
    report = Report()
    _check_stateful(trainer)
    for schedule in trainer.parts(LRSchedule).values():
        schedule.check(trainer.monitor, trainer.run.options.epochs, _steps_per_epoch(trainer))
    with rehearsal(trainer):
        if any(option.splits_batches for option in _options_of(trainer)):
            _check_batch_first(trainer.run.batches["train"])
        values = {VALID + name: value for name, value in _rehearse_validation(trainer).items()}
        values |= _rehearse_training(trainer, report)
        if trainer.monitor.is_on and not any(gather(trainer.monitor.name in values)):
            values = _after_epoch_end(trainer, values)  # only then: it may write files
    names = set().union(*gather(set(values)))
    if trainer.monitor.is_on and trainer.monitor.name not in names:
        missing, reason = trainer.monitor.name, "" if "valid" in trainer.run.batches else " There is no validation set."
        raise ConfigError(f"trainer.monitor: no value is named {missing!r}.{reason} {closest(missing, names)}")
    for problem in report.problems if warns else ():
        log.warning("%s", problem)
    for note in report.notes if warns else ():
        log.info("%s", note)


def _steps_per_epoch(trainer: BaseTrainer) -> int | None:
    return trainer.run.options.epoch_steps or trainer.run.batches["train"].steps_per_pass()


def _check_stateful(trainer: BaseTrainer) -> None:
    owner = f"{type(trainer).__name__}.stateful"
    try:
        parts: Any = trainer.stateful()
    except Exception as error:
        raise UserError(f"{owner} fails. {told(error, without=_NOT_TOLD, most=MOST_LINES - 1)}") from error
    if not isinstance(parts, dict):
        raise ConfigError(f'{owner} returns {described(parts)}. Return a dict: {{"model": self.model, ...}}.')
    if "model" not in parts:
        raise ConfigError(f"{owner}: 'model' is missing: the key under which others find the weights.")
    for name, part in parts.items():
        if name in RESERVED:
            raise ConfigError(f"{owner}: {name!r} is a key of the run's own. Choose another name.")
        if not hasattr(part, "state_dict") or not hasattr(part, "load_state_dict"):
            raise ConfigError(
                f"{owner}: {name!r} is {described(part)}. Put an object with state_dict() and load_state_dict() there: "
                "a module, an optimizer, or a class of yours."
            )


def _rehearse_validation(trainer: BaseTrainer) -> dict[str, float]:
    if "valid" not in trainer.run.batches:
        return {}
    trainer.set_training(False)
    with torch.no_grad():
        values = _rehearse(trainer, trainer.valid_step, "valid")
        most, steps = trainer.run.options.valid_steps, trainer.run.batches["valid"].steps_per_pass()
        if most is None or (steps or 0) <= most:
            _rehearse(trainer, trainer.valid_step, "valid", is_last=True)
    return values


def _rehearse_training(trainer: BaseTrainer, report: Report) -> dict[str, float]:
    trainer.set_training(True)
    options = _options_of(trainer)
    for option in options:
        option.is_used = False
    parallel = trainer.run.devices.parallel
    replicas = [part for part in vars(trainer).values() if isinstance(part, nn.Module)]
    with ExitStack() as stack:
        for module in replicas:  # a process that waits here for another's gradients could say nothing
            stack.enter_context(parallel.exchanging(module, False))
        gradients = stack.enter_context(GradientWatch(trainer))
        values = _rehearse(trainer, trainer.train_step, "train", report)
    if parallel.needs_all_gradients and world_size() > 1:
        _check_all_gradients(gradients)
    if gradients.has_stepped and not gradients.reached and all(one.grad is None for one in parameters_of(trainer)):
        report.problem(
            "trainer.train_step: no parameter gets a gradient in the first step. Call loss.backward() before "
            "optimizer.step(), on a loss that is not detached."
        )
    for option in options:
        if not option.is_used:
            where = f"trainer.args.{option.option}: train_step of {type(trainer).__name__}"
            raise ConfigError(f"{where} does nothing with it. {option.remedy}; or leave it out.")
    for name, part in trainer.stateful().items():
        plain(taken_apart(part.state_dict())[0], name)
    with ExitStack() as stack:
        for module in replicas:
            stack.enter_context(parallel.exchanging(module, False))
        _rehearse(trainer, trainer.train_step, "train", is_last=True)
    for schedule in trainer.parts(LRSchedule).values() if trainer.step == 0 else ():
        schedule.try_out(trainer.run.options.epochs, _steps_per_epoch(trainer))
    return values


def _options_of(trainer: BaseTrainer) -> list[StepOption]:
    return [part for part in vars(trainer).values() if isinstance(part, StepOption) and part.is_on]


def _check_batch_first(batches: Batches) -> None:
    batch, samples = batches.trial(), batches.samples
    part = batches.first_samples(samples // 2)
    if samples > 1 and part is not None and not is_batch_first(batch, samples, part, samples // 2):
        raise ConfigError(
            "trainer.args.micro_batch_size: the samples are not the first dimension of each tensor of a batch "
            f"({described(batch)} for {samples} samples, {described(part)} for {samples // 2}), so it cannot be split. "
            "Let `collate` of the data set put them first, or leave micro_batch_size out."
        )


def _check_all_gradients(gradients: GradientWatch) -> None:
    """torch exchanges the gradients of all parameters of a replica, and waits for those that never come."""
    lacking = sorted(set().union(*gather(set(gradients.lacking()))))
    if lacking:
        raise ConfigError(
            f"parallel: {listed(lacking)}: no gradient in the first step of a process. If another step uses them, "
            'write "args": {"find_unused_parameters": true} in the section parallel; else take them out or freeze them.'
        )


def _rehearse(
    trainer: BaseTrainer,
    step: Callable[[Any], StepResult],
    split: str,
    report: Report | None = None,
    is_last: bool = False,
) -> dict[str, float]:
    """The values that come out of a step on the first batch of a split, or on its last one."""
    batches = trainer.run.batches[split]
    trainer.metrics.reset()
    batch, samples = _batch_of(trainer, split, is_last), batches.samples
    if is_last and not any(gather(batch is not None)):
        return {}
    means, result = RunningMeans(), StepResult({}, 0)
    losses = LossCalls(report)
    watch = LossWatch(trainer, losses.report, samples)
    try:
        with explained_backward(), losses, watch:
            if batch is not None:
                result = trainer.result_of(step, batch, samples)
            means.update(result)
        computed = scalars_and_matrices(trainer.metrics.compute())
    except BadReturn as error:
        raise UserError(str(error)) from error
    except BackwardError as error:
        way = "" if torch.is_anomaly_enabled() else "\n  Write x = x + 1 instead of x += 1; --anomaly shows the line."
        raise UserError(f"{error}{way}") from error
    except (UserError, RunError, Stopped):
        raise
    except Exception as error:
        hints = [*hints_for(error), *losses.hints(), *watch.hints()]
        raise UserError(_explained(error, split, batch, samples, hints, is_last)) from error
    if not is_last:
        check_targets(trainer.run.batches, losses, batch)
        _check_metrics(trainer, computed)  # on all processes: it asks each
    trainer.metrics.reset()
    return means.compute() | {name: value for name, value in computed.items() if isinstance(value, float)}


def _batch_of(trainer: BaseTrainer, split: str, is_last: bool) -> Any:
    try:
        return trainer.run.batches[split].trial(is_last)
    except BatchError as error:  # nothing has begun: it is an error of the input, as in a config
        raise UserError(str(error)) from error
    except ConfigError:
        if world_size() == 1 or split == "train" or steps_are_joint():
            raise
        return None  # fewer samples than processes: others have one to try


def _explained(error: Exception, split: str, batch: Any, samples: int, hints: list[str], is_last: bool) -> str:
    """What failed, where in the person's code, on what kind of batch, and what may help."""
    if is_last and split == "train":
        hints = ['To leave this batch out: "drop_last": true in data_loader; or choose another batch_size.', *hints]
    if not (isinstance(batch, (tuple, list)) and len(batch) == 2):
        hints = ["`inputs, targets = batch` needs a batch of two parts. Return (inputs, targets) from the data set."]
    text = told(error, without=_NOT_TOLD, most=MOST_LINES - 3 if hints else MOST_LINES - 2)
    which = (
        f"The last {split} batch, of {samples} sample{'s' * (samples != 1)}," if is_last else f"The first {split} batch"
    )
    lines = [f"{which} fails. {text}", f"  The batch: {described(batch)}."]
    return "\n".join([*lines, f"  {' '.join(hints)}"] if hints else lines)


def _after_epoch_end(trainer: BaseTrainer, values: dict[str, float]) -> dict[str, float]:
    """The values with those that `on_epoch_end` adds."""
    own: dict[str, Any] = {"epoch": trainer.epoch, "step": trainer.step} | trainer.learning_rates() | values
    added = dict(own)
    try:
        trainer.on_epoch_end(added)
        return checked_values(f"{type(trainer).__name__}.on_epoch_end", own, added)
    except BadReturn as error:
        raise UserError(str(error)) from error
    except (UserError, RunError, Stopped):
        raise
    except Exception as error:
        raise UserError(f"on_epoch_end fails. {told(error, without=_NOT_TOLD, most=MOST_LINES - 2)}") from error


def _check_metrics(trainer: BaseTrainer, before: dict[str, Any]) -> None:
    """Save the metric objects, which have seen a batch, and load them again: they must return the same."""
    metrics = trainer.metrics
    state = restored(deepcopy(plain(metrics.state_dict(), "metrics")))
    metrics.reset()
    metrics.load_state_dict(state, trainer.run.devices.main)
    for name, value in scalars_and_matrices(metrics.compute()).items():
        now, then = (torch.as_tensor(one) for one in (value, before[name]))
        if now.is_sparse:  # such as the confusions of many classes
            now, then = (torch.cat([*one.coalesce().indices(), one.coalesce().values()]) for one in (now, then))
        if not torch.equal(now.nan_to_num(), then.nan_to_num()):
            raise ConfigError(
                f"metrics: {name!r} cannot be saved in the middle of an epoch: what it has seen is not in attributes "
                "that hold tensors, arrays or plain values. Give the class state_dict() and load_state_dict(state)."
            )
