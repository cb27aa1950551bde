"""From a file's state_dict into a module: which entries fit, and what to say of those that do not."""

import logging
from collections.abc import Mapping
from copy import copy, deepcopy
from functools import partial
from typing import Any

from torch import Tensor, nn

from utils.checkpoints.checkpoint import CheckpointError, load_into

MOST_SHOWN = 6  # entries in an error message
_OTHER_SHAPE, _MISSING, _UNEXPECTED = "of another shape", "missing", "unexpected"
Differences = dict[str, list[str]]

log = logging.getLogger(__name__)


def find_state_dict(content: dict[str, Any], module: nn.Module, source: str) -> dict[str, Any]:
    """The weights in what a file holds: all of it, or its `model` or `state_dict`, with the names of the bare module.

    Raises:
        CheckpointError: there are none.
    """
    below = [content[key] for key in ("model", "state_dict") if isinstance(content.get(key), dict)]
    state = below[0] if below else content
    if not all(isinstance(name, str) for name in state) or not any(isinstance(item, Tensor) for item in state.values()):
        found = ", ".join(map(str, list(state)[:MOST_SHOWN])) or "nothing"
        raise CheckpointError(
            f"{source}: holds no weights, but {found}. A state_dict is what can stand there, alone or under 'model' "
            "or 'state_dict'."
        )
    for prefix in ("module.", "_orig_mod.", "module."):  # of programs that saved a DataParallel or compiled module
        is_own = any(name.startswith(prefix) for name in module.state_dict())
        if not is_own and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def fill(module: nn.Module, state: dict[str, Any], source: str, strict: bool = True) -> None:
    """Load a state_dict; not `strict`, what of it fits, with warnings of the rest. Costs a copy of the module's own.

    Raises:
        CheckpointError: something does not fit; or, not `strict`, none of the parameters does. The module is as before.
    """
    before = deepcopy(module.state_dict())
    differences = _differences(state, before)
    if not strict:
        state = copy(state)  # and not a new dict: torch keeps the versions of modules in an attribute
        for name in list(state):
            if name not in before or _form(state[name]) != _form(before[name]):
                del state[name]
        if not any(name in state for name, _ in module.named_parameters(remove_duplicate=False)):
            raise CheckpointError(f"{source}: nothing in it fits this config's model: {_shown(differences)}.")
    try:
        load_into("model", partial(module.load_state_dict, strict=strict), state, source)
    except CheckpointError as error:
        module.load_state_dict(before)
        if strict and differences:
            raise CheckpointError(
                f"{source}: its 'model' does not fit this config's: {_shown(differences)}. "
                '"strict": false in the model section loads what fits.'
            ) from error
        raise
    for what, entries in differences.items() if not strict else ():
        kept = "not used" if what == _UNEXPECTED else "the model keeps its initial values"
        log.warning("%s: %s, %s: %s.", source, what, kept, ", ".join(entries))


def _differences(state: Mapping[str, Any], own: Mapping[str, Any]) -> Differences:
    """What does not fit, by kind; a kind of which there is nothing is left out."""
    found: Differences = {_OTHER_SHAPE: [], _MISSING: [], _UNEXPECTED: []}
    for name, value in own.items():
        if name not in state:
            found[_MISSING].append(f"{name} {_form(value)}")
        elif _form(state[name]) != _form(value):
            found[_OTHER_SHAPE].append(f"{name} {_form(state[name])} for {_form(value)}")
    found[_UNEXPECTED] = [f"{name} {_form(value)}" for name, value in state.items() if name not in own]
    return {what: entries for what, entries in found.items() if entries}


def _form(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def _shown(differences: Differences) -> str:
    """Some of each kind, and how many more there are of it."""
    most = MOST_SHOWN // max(1, len(differences))
    return "; ".join(
        f"{what}: {', '.join(entries[:most])}" + (f" and {len(entries) - most} more" if len(entries) > most else "")
        for what, entries in differences.items()
    )
