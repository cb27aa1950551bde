"""Which parameters train, and with which options: chosen by patterns of their names.

A parameter has two kinds of names: its path in the model, such as `layer1.0.bn1.weight`, and `CLASS.name` of the module
that owns it, such as `BatchNorm2d.weight`. A parameter that is shared has those of all its places. Either may match.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from utils.distributed.shards import class_name
from utils.errors import ConfigError, closest

Names = dict[nn.Parameter, list[str]]

log = logging.getLogger(__name__)


def freeze(model: nn.Module, patterns: str | Sequence[str]) -> None:
    """Take the parameters that match a pattern out of the training.

    Buffers go on: the running mean of a BatchNorm follows the data while the model is in training mode.

    Raises:
        ConfigError: a pattern matches nothing, or nothing is left to train.
    """
    mistakes: list[str] = []
    names = _names(model)
    frozen = _matching("model.freeze", patterns, names, mistakes)
    if mistakes:
        raise ConfigError(*mistakes)
    if not any(parameter.requires_grad and parameter not in frozen for parameter in names):
        raise ConfigError(f"model.freeze: {patterns!r} leaves nothing to train. Leave some parameters out.")
    for parameter in frozen:
        parameter.requires_grad_(False)
    log.info("model.freeze: %s of %s parameters do not train", _count(frozen), _count(names))


def parameter_groups(model: nn.Module, groups: Sequence[Mapping[str, Any]] = ()) -> list[Any]:
    """What an optimizer takes as `params`: what is to be trained; with `groups`, in groups of options of their own.

    A group is `{"params": PATTERN or list of them, OPTION: VALUE, ...}`. A parameter is in the first group that matches
    it; those in none come first, with the options of the optimizer itself. A group with nothing to train is left out.

    Raises:
        ConfigError: a pattern matches no parameter, or a group only what earlier groups have.
    """
    if not groups:
        return [weight for weight in model.parameters() if weight.requires_grad]
    mistakes: list[str] = []
    names = _names(model)
    rest = [parameter for parameter in names if parameter.requires_grad]
    chosen: list[tuple[str, dict[str, Any]]] = []
    for i, group in enumerate(groups):
        where = f"optimizer.groups.{i}"
        if not isinstance(group, Mapping):
            mistakes.append(f'{where}: found {group!r}. Write {{"params": PATTERN, OPTION: VALUE, ...}}.')
            continue
        patterns = group.get("params")
        matched = _matching(f"{where}.params", patterns, names, mistakes)
        own = [parameter for parameter in rest if parameter in matched]
        rest = [parameter for parameter in rest if parameter not in matched]
        if not own and any(parameter.requires_grad for parameter in matched):
            mistakes.append(f"{where}.params: earlier groups have all that {patterns!r} matches. The first match wins.")
        chosen.append((where, {**group, "params": own}))
    if mistakes:
        raise ConfigError(*mistakes)
    chosen.insert(0, ("optimizer: in no group", {"params": rest}))
    for where, group in chosen:
        options = ", ".join(f"{key} {value}" for key, value in group.items() if key != "params")
        log.info("%s: %s parameters%s", where, _count(group["params"]), f", {options}" if options else "")
    return [group for _, group in chosen if group["params"]]


def _names(model: nn.Module) -> Names:
    """All names of each parameter, in the order of `model.parameters()`."""
    names: Names = {}
    for path, module in model.named_modules(remove_duplicate=False):
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            places = names.setdefault(parameter, [])
            places += [f"{path}.{name}".lstrip("."), f"{class_name(module)}.{name}"]
    return names


def _matching(where: str, patterns: Any, names: Names, mistakes: list[str]) -> set[nn.Parameter]:
    """The parameters that one of the patterns matches; a line in `mistakes` for each pattern that matches none."""
    texts = [patterns] if isinstance(patterns, str) else patterns
    if not isinstance(texts, (list, tuple)) or not texts or not all(isinstance(text, str) for text in texts):
        mistakes.append(f"{where}: found {patterns!r}. Write a pattern of parameters' names, or a list of them.")
        return set()
    matching: set[nn.Parameter] = set()
    for text in texts:
        found = [parameter for parameter, own in names.items() if any(fnmatchcase(name, text) for name in own)]
        if not found:
            mistakes.append(f"{where}: no parameter matches {text!r}. {closest(text, _choices(names))}")
        matching.update(found)
    return matching


def _choices(names: Names) -> set[str]:
    """What one may have meant: a parameter, or all below a module."""
    paths = {tuple(name.split(".")) for own in names.values() for name in own}
    modules = {path[:i] for path in paths for i in range(1, len(path))}
    return {".".join(path) for path in paths} | {".".join((*path, "*")) for path in modules}


def _count(parameters: Iterable[nn.Parameter]) -> str:
    return f"{sum(parameter.numel() for parameter in parameters):,}"
