"""What trains, and the state of optimizers, by the names of parameters: a run may freeze and thaw them and add groups,
and the order in which a model makes its layers may change between two starts."""

from typing import Any

from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer

from base.trainer_like import TrainerLike
from utils.checkpoints.checkpoint import CheckpointError


def parameter_state(trainer: TrainerLike) -> dict[str, Any]:
    """The names of the parameters in each group of each optimizer, and of those that do not train."""
    named = _named(trainer)
    names = {parameter: name for name, parameter in named.items()}
    return {
        "groups": {
            key: [
                [names.get(one, f"parameter {i}") for i, one in enumerate(group["params"])]
                for group in part.param_groups
            ]
            for key, part in trainer.parts(Optimizer).items()
        },
        "frozen": [name for name, parameter in named.items() if not parameter.requires_grad],
    }


def give_parameter_state(trainer: TrainerLike, state: dict[str, Any], source: str) -> dict[str, Any]:
    """Freeze and thaw as a checkpoint has it, and add the groups that the run has added to its optimizers. Returns the
    checkpoint with the states of optimizers in the order of their parameters now.

    Raises:
        CheckpointError: an optimizer has other parameters now.
    """
    saved = state.get("parameters")
    if saved is None:  # from before this was saved: by position
        return state
    named, frozen = _named(trainer), set(saved["frozen"])
    for name, parameter in named.items():
        parameter.requires_grad_(name not in frozen)
    optimizers = trainer.parts(Optimizer)
    for key, groups in saved["groups"].items():
        if key in optimizers and key in state:
            _add_groups(optimizers[key], groups, state[key], named)
    now = parameter_state(trainer)["groups"]
    return state | {
        key: _in_order(f"{source}: its {key!r}", optimizers[key], state[key], groups, now[key])
        for key, groups in saved["groups"].items()
        if key in optimizers and key in state
    }


def _named(trainer: TrainerLike) -> dict[str, Tensor]:
    found: dict[Tensor, str] = {}
    for key, module in trainer.parts(nn.Module).items():
        for name, parameter in module.named_parameters(prefix=key):
            found.setdefault(parameter, name)
    return {name: parameter for parameter, name in found.items()}


def _add_groups(optimizer: Optimizer, groups: list[list[str]], state: dict[str, Any], named: dict[str, Tensor]) -> None:
    for names, options in list(zip(groups, state["param_groups"], strict=True))[len(optimizer.param_groups) :]:
        if all(name in named for name in names):  # else what is different is reported below
            own = {name: value for name, value in options.items() if name != "params"}
            optimizer.add_param_group({"params": [named[name] for name in names]} | own)


def _in_order(
    where: str, optimizer: Optimizer, state: dict[str, Any], saved: list[list[str]], now: list[list[str]]
) -> dict[str, Any]:
    if saved == now:
        return state
    if list(map(sorted, saved)) != list(map(sorted, now)):
        before, after = (sorted({name for group in groups for name in group}) for groups in (saved, now))
        differing = [name for name in {*before, *after} if (name in before) != (name in after)]
        what = f"{', '.join(sorted(differing)[:4])}" if differing else "other groups of parameters"
        raise CheckpointError(
            f"{where} does not fit this config's: it differs in {what}. Train the same parameters in the same groups, "
            "or start a new run from its weights: --init-from."
        )
    if isinstance(optimizer, LBFGS):
        raise CheckpointError(f"{where}: LBFGS keeps its state in the order of the parameters, which has changed.")
    old: dict[str, int] = {}
    for names, own in zip(saved, state["param_groups"], strict=True):
        old |= dict(zip(names, own["params"], strict=True))
    groups, numbers = [], iter(range(len(old)))
    moved: dict[int, Any] = {}
    for names, own in zip(now, state["param_groups"], strict=True):
        placed = dict(zip(names, numbers, strict=False))
        moved |= {number: state["state"][old[name]] for name, number in placed.items() if old[name] in state["state"]}
        groups.append(own | {"params": list(placed.values())})
    return state | {"state": moved, "param_groups": groups}
