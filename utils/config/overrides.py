"""`--set a.b.0.c=VALUE`: change a config from the command line."""

import copy
import re
from collections.abc import Sequence
from typing import Any

from utils.config.loading import Config, kept_of, value_of, with_long_sections
from utils.config.places import Place, Places
from utils.errors import ConfigError
from utils.known_secrets import remember, remember_all, remember_in_text
from utils.secrets import REDACTED, redacted_arguments

MOST_SHOWN = 100  # characters of an assignment in a message
_INDEX = re.compile(r"\d{1,9}")
_MISSING = object()


def override(config: Config, assignments: Sequence[str], places: Places | None = None) -> Config:
    """A copy of `config` with `a.b.0.c=VALUE` assignments applied. `places` is told of each.

    A section is set before what is in it, whatever the order: `--lr 0.1 --set optimizer=SGD` keeps the rate.

    Raises:
        ConfigError: an assignment has no `=`, or leads through a value that has no keys.
    """
    config, places = copy.deepcopy(config), Places() if places is None else places
    mistakes: list[str] = []
    remember(config)
    for assignment, shown in sorted(zip(assignments, redacted_arguments(assignments, True), strict=True), key=_rank):
        key, equals, text = assignment.partition("=")
        remember_in_text(assignment)
        shown = shown if len(shown) <= MOST_SHOWN else f"{shown[: MOST_SHOWN - 3]}..."
        try:
            if not equals or not key:
                raise ConfigError(f"--set {shown}: not an assignment. Write it as section.key=value.")
            if "${env:" in text:
                raise ConfigError(f"--set {shown}: is not read here. Let the shell put it in: {key}=$NAME.")
            if is_secret := _value_at(config, key) == REDACTED:
                remember_all(text)
            _assign(config, key, value_of(text), shown, places)
        except ConfigError as error:
            mistakes += error.mistakes
            continue
        name = f"--set {key}={REDACTED}" if is_secret else f"--set {shown}"
        places.record(key, Place(name, text, is_secret))
        config = with_long_sections(config)
    remember(config)
    if mistakes:
        raise ConfigError(*mistakes)
    return config


def _value_at(config: Any, key: str) -> Any:
    for name in key.split("."):
        if isinstance(config, list) and _INDEX.fullmatch(name) and int(name) < len(config):
            config = config[int(name)]
        else:
            config = config.get(name) if isinstance(config, dict) else None
    return config


def _rank(assignment: tuple[str, str]) -> tuple[int, bool]:
    key = assignment[0].partition("=")[0]
    return key.count("."), not key.endswith(".type")


def _assign(config: Config, key: str, value: Any, shown: str, places: Places) -> None:
    *parents, last = key.split(".")
    holder: Any = config
    for name in parents:
        if isinstance(holder, dict) and holder.get(name, _MISSING) in (_MISSING, None):
            holder[name] = {}
        inner = _member(holder, name, shown)
        if isinstance(holder, list) and isinstance(inner, str):  # "accuracy" among the metrics
            inner = holder[int(name)] = {"type": inner, "args": {}}
        holder = inner
    if isinstance(holder, list):
        _member(holder, last, shown)
        holder[int(last)] = value
    elif isinstance(holder, dict):
        if last == "type":
            kept = kept_of(holder, value, ".".join(parents))
            for name in [name for name, old in holder.items() if kept.get(name, _MISSING) is not old]:
                places.forget(".".join([*parents, name]))
            holder.clear()
            holder |= kept
        holder[last] = value
    else:
        raise ConfigError(f"--set {shown}: {'.'.join(parents)} is {holder!r}, which has no keys.")


def _member(holder: Any, name: str, shown: str) -> Any:
    if isinstance(holder, dict):
        return holder[name]
    if isinstance(holder, list):
        if _INDEX.fullmatch(name) and int(name) < len(holder):
            return holder[int(name)]
        raise ConfigError(f"--set {shown}: the list has items 0 to {len(holder) - 1}, found {name[:40]!r}.")
    raise ConfigError(f"--set {shown}: {name!r} lies below {holder!r}, which has no keys.")
