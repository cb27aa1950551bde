"""What of a trainer stands in a checkpoint, and how it gets back: to one process, or to each of several."""

import logging
from collections.abc import Collection
from functools import partial
from typing import Any

from torch import nn
from torch.optim import Optimizer

from base.epoch_so_far import joined
from base.parameter_state import give_parameter_state, parameter_state
from base.trainer_like import TrainerLike
from utils.checkpoints.checkpoint import FORMAT, CheckpointError, Stateful, load_into, packed, unpacked
from utils.checkpoints.plain import restored
from utils.distributed import processes
from utils.distributed.shards import fitted, is_sharded, mesh_of
from utils.modules.auto_tuning import as_saved
from utils.seed import rng_state, seed_own, set_rng_state

log = logging.getLogger(__name__)
OWN = ("epoch_so_far", "rng")  # what each process has of its own


def state_of(trainer: TrainerLike, is_alone: bool = False) -> dict[str, Any]:
    """A checkpoint without its config. All processes of a run ask for it together.

    `is_alone`: they do not, but the training phase is over: all have the same values of it, and go on with new seeds.
    """
    so_far = trainer.so_far
    own = {"epoch_so_far": so_far.state_dict(trainer.metrics) if so_far else {}, "rng": rng_state()}
    if processes.world_size() == 1:
        first, others = own, []
    elif is_alone:
        first, others = own, [own | {"rng": None}] * (processes.world_size() - 1)
    else:
        first, *others = map(unpacked, processes.gather(packed(own)))
    return {
        "format": FORMAT,
        "epoch": trainer.epochs_done,
        "step": trainer.step,
        **{name: part.state_dict() for name, part in trainer.stateful().items()},
        "parameters": parameter_state(trainer),
        "monitor": trainer.monitor.state_dict(),
        "batches": trainer.run.batches["train"].state_dict(),
        **first,
        "other_ranks": others,
    }


def state_alone(trainer: TrainerLike) -> dict[str, Any] | None:
    """A checkpoint when a training phase is over, made without a word from other processes; None where that cannot be,
    or where a parameter is not finite."""
    modules = trainer.parts(nn.Module)
    if any(map(is_sharded, modules.values())) or not trainer.watch.are_finite(modules):
        return None
    return state_of(trainer, is_alone=True)


def give_state(trainer: TrainerLike, state: dict[str, Any], source: str, names: Collection[str]) -> None:
    """Go on from a checkpoint; with `names`, take only these parts from it.

    Raises:
        CheckpointError: a part is missing, or does not fit.
    """
    parts = {name: part for name, part in trainer.stateful().items() if not names or name in names}
    state = _with_tensors(trainer, state, source, parts)
    if not names:
        ordered: list[dict[str, Any]] = []
        load_into(
            "optimizer", lambda saved: ordered.append(give_parameter_state(trainer, saved, source)), state, source
        )
        (state,) = ordered
    for name, part in parts.items():
        if names and isinstance(part, nn.Module):
            as_saved(part, state.get(name, {}))
        load_into(name, partial(_load_fitted, part), state.get(name, {}), source)
    if names:
        return
    trainer.epoch, trainer.step = state["epoch"], state["step"]
    load_into("monitor", trainer.monitor.load_state_dict, state["monitor"], source)
    load_into("batches", trainer.run.batches["train"].load_state_dict, state["batches"], source)
    load_into("other_ranks", lambda ranks: _give_own(trainer, ranks, source), _of_each_rank(state), source)


def _load_fitted(part: Stateful, state: dict[str, Any]) -> None:
    state = restored(state, with_arrays=not isinstance(part, Optimizer))  # torch's optimizers load no arrays
    part.load_state_dict(fitted(part, state))


def _with_tensors(trainer: TrainerLike, state: dict[str, Any], source: str, names: Collection[str]) -> dict[str, Any]:
    """The state with these parts whole, or with this process's part of them, if they stand in a folder of shards."""
    if "shards" not in state:
        return state
    from utils.checkpoints.sharded_files import DamagedShards, with_tensors

    mesh = mesh_of(trainer.parts(nn.Module).values())
    try:
        return with_tensors(state, names, mesh, processes.saving_group())
    except DamagedShards as error:
        raise CheckpointError(f"{source}: {error}.") from error


def _of_each_rank(state: dict[str, Any]) -> list[dict[str, Any]]:
    first = {name: state.get(name) for name in OWN}
    return [first, *state.get("other_ranks", [])]


def _give_own(trainer: TrainerLike, ranks: list[dict[str, Any]], source: str) -> None:
    if len(ranks) == processes.world_size():
        own = ranks[processes.rank()]
    else:
        log.warning(
            "%s is of %d process%s, this run has %d: it goes on from the same sample, but not to the last bit.",
            source, len(ranks), "es" * (len(ranks) > 1), processes.world_size(),
        )  # fmt: skip
        own = {"epoch_so_far": joined([rank["epoch_so_far"] for rank in ranks], trainer.metrics), "rng": None}
    if own["epoch_so_far"]:
        load_into("epoch_so_far", trainer.begin_within_epoch, restored(own["epoch_so_far"]), source)
    if own["rng"] is None:
        seed_own(trainer.run.seed, "epoch", trainer.epoch, "from step", trainer.step)
    else:
        load_into("rng", set_rng_state, own["rng"], source)
