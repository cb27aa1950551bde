"""A step as the run calls it: on the run's device, with errors explained and its result checked."""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from base.trainer_like import TrainerLike
from logger.means import StepResult
from logger.names import check_names
from utils.batch import batch_size, samples_in
from utils.distributed.exact_gradients import set_weight
from utils.distributed.memory import explain_memory
from utils.distributed.processes import explain_lost_rank
from utils.errors import BadReturn, RunError

_MISSING = re.compile(r"did not receive grad for rank \d+: ([\d ]+)")
_check_names_once = lru_cache(maxsize=64)(check_names)


def result_of(
    trainer: TrainerLike, step: Callable[[Any], StepResult], batch: Any, samples: int | None = None
) -> StepResult:
    """Give a batch to `train_step` or `valid_step`. `samples`: how many are in it; None for what its shape tells.

    Raises:
        BadReturn: it returns no `StepResult`, or one with a name that the run uses itself.
        RunError: memory does not suffice, or another process has ended.
    """
    trainer.samples = batch_size(batch) if samples is None else samples_in(batch, samples)
    if "train" in trainer.run.batches:
        set_weight(trainer.run.batches["train"].gradient_weight)
    try:
        result = step(trainer.run.devices.move(batch))
    except (RuntimeError, MemoryError) as error:
        explain_memory(error, trainer.samples, trainer.step + 1)
        explain_lost_rank(error)
        _explain_missing_gradients(error, trainer)
        raise
    if not isinstance(result, StepResult):
        found = "None" if result is None else f"a {type(result).__name__}"
        raise BadReturn(f"{step.__qualname__} returns {found}. Return StepResult(means, count).")
    if not isinstance(result.means, Mapping):
        found = type(result.means).__name__
        raise BadReturn(f'{step.__qualname__}: the means are a {found}. Return StepResult({{"loss": loss}}, count).')
    _check_names_once(step.__qualname__, tuple(result.means))
    return result


def _explain_missing_gradients(error: BaseException, trainer: TrainerLike) -> None:
    """Raise `RunError` if it is what torch's DistributedDataParallel says of the step before this one."""
    if "finished reduction in the prior iteration" not in str(error):
        return
    found, model = _MISSING.search(str(error)), trainer.stateful()["model"]
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]  # type: ignore[attr-defined]
    numbers = [int(number) for number in found[1].split()] if found else []
    which = ", ".join(names[number] for number in numbers[:4] if number < len(names)) or "some parameters"
    raise RunError(
        f"step {trainer.step}: {which} got no gradient, and ddp waits for one from each parameter. Write "
        '"parallel": {"type": "ddp", "args": {"find_unused_parameters": true}}.'
    ) from error
