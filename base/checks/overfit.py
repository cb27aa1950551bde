"""The first test of any training code: what cannot learn a few batches by heart will not learn from many."""

import logging
import math
from copy import deepcopy
from itertools import cycle, islice

import torch
from torch.optim import Optimizer

from base.base_trainer import BaseTrainer
from base.checks.check_step import Counted, counted, step_on
from logger.means import RunningMeans
from logger.progress import Progress
from utils.distributed.signals import StopSignals, raise_if_asked
from utils.errors import RunError, Stopped, UserError

log = logging.getLogger(__name__)
MOST_STEPS = 1000  # in which Adam, at its usual rate of 0.001, moves each weight by at most about 1
NEAR_ZERO = 0.01  # of the loss before the first step
CHECK_STEPS = 10  # at the least between two scores, each a forward pass over every batch


def overfit(trainer: BaseTrainer, count: int, most_steps: int = MOST_STEPS) -> None:
    """Train on the first `count` batches again and again, at the config's learning rate, until their loss, scored
    without dropout, is near zero. Writes nothing.

    Raises:
        RunError: it does not come near zero within `most_steps`.
        Stopped: a signal asked for it.
    """
    batches = _first_batches(trainer, count)
    _undo_schedules(trainer)
    name, before = _score(trainer, batches)
    samples = sum(samples for _, samples in batches)
    what = f"overfit: {len(batches)} batch{'es' * (len(batches) > 1)}, {samples} samples: {name}"
    if not 0 < before < math.inf:
        raise RunError(f"{what} is {before:.3g} before the first step, and cannot come near zero from there.")
    near_zero = NEAR_ZERO * before
    progress = Progress(islice(cycle(batches), most_steps), most_steps, f"overfit {len(batches)}")
    check_steps = len(batches) * math.ceil(CHECK_STEPS / len(batches))
    steps, scores = 0, [before]
    try:
        with StopSignals():
            for steps, batch in enumerate(progress, 1):
                step_on(trainer, batch)
                progress.update(batch[1])
                if steps % check_steps == 0 or steps == most_steps:
                    scores.append(_score(trainer, batches)[1])
                    progress.show(**{name: scores[-1]})
                    if scores[-1] <= near_zero or not math.isfinite(scores[-1]):
                        break
                raise_if_asked()
    except Stopped:
        log.info("Stopped; nothing was written.")
        raise
    course = f"{what} {before:.3g} -> {scores[-1]:.3g} in {steps} steps ({progress.seconds:.1f} s)"
    if not -math.inf < scores[-1] <= near_zero:
        raise RunError(f"{course}, {_lowest(scores)}; near zero is {near_zero:.3g}.\n{_advice(trainer)}")
    log.info(course)


def _first_batches(trainer: BaseTrainer, count: int) -> list[Counted]:
    """Loaded once, so that what is random in them stays as it is."""
    if count < 1:
        raise UserError(f"--overfit {count}: not a number of batches. Write a whole number of at least 1.")
    batches = trainer.run.batches["train"]
    position = batches.state_dict()
    first = counted(batches, islice(batches.epoch(), count))
    batches.load_state_dict(position)  # which lets the loader's workers go
    if len(first) < count:
        log.warning("overfit: %d batches asked for, %d in the training set.", count, len(first))
    return first


def _undo_schedules(trainer: BaseTrainer) -> None:
    """A schedule that warms up has scaled the rates down already, when it was made."""
    for optimizer in trainer.parts(Optimizer).values():
        for group in optimizer.param_groups:
            group["lr"] = group.get("initial_lr", group["lr"])


def _score(trainer: BaseTrainer, batches: list[Counted]) -> tuple[str, float]:
    """The name and mean of the loss, as `valid_step` says it; leaves modules as they are in training."""
    means = RunningMeans()
    trainer.set_training(False)
    trainer.metrics.reset()
    with torch.no_grad():
        for batch, samples in batches:
            means.update(trainer.result_of(trainer.valid_step, deepcopy(batch), samples))
    trainer.metrics.reset()
    trainer.set_training(True)
    values = means.compute()
    name = "loss" if "loss" in values else next(iter(values))
    return name, values[name]


def _lowest(scores: list[float]) -> str:
    is_falling = scores[-1] < 0.9 * scores[len(scores) // 2]
    return f"lowest {min(filter(math.isfinite, scores)):.3g}{', still falling' * is_falling}"


def _advice(trainer: BaseTrainer) -> str:
    rates = ", ".join(f"{rate} {value:.4g}" for rate, value in trainer.learning_rates().items())
    return f"""Look at:
- the learning rate ({rates}), and max_grad_norm;
- train_step: zero_grad, backward and step, in this order, and an optimizer that has the model's parameters;
- the data: labels that do not belong to the inputs, or equal inputs with different labels;
- the loss: softmax applied twice, or a floor above zero (label smoothing, a penalty, noise that the step draws).
`python train.py -c CONFIG --check` names some of these."""
