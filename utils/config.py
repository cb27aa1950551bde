"""Config files and overrides: load, change, compare, write. Imports nothing heavy, so that mistakes show at once."""

import copy
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from utils.errors import ConfigError, UserError
from utils.files import write_atomically
from utils.paths import shown_path

Config = dict[str, Any]

# Sections that name one callable: "Adam" is short for {"type": "Adam", "args": {}}.
NAMED_SECTIONS = ("model", "dataset", "loss", "optimizer", "lr_scheduler", "trainer")

MOST_BYTES = 1_000_000
_LITERALS = {"True": True, "False": False, "None": None}
_MISSING = object()


def load_config(path: str | Path) -> Config:
    """Read a JSON config file.

    Raises:
        UserError: the file is missing, unreadable, not JSON, or not an object.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{path}: is no config: larger than {MOST_BYTES:,} bytes.")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such config file. Working directory: {Path.cwd()}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a config: {error}.") from None
    return parse_config(text, shown_path(path))


def parse_config(text: str, source: str) -> Config:
    """Parse JSON text; `source` is what an error message calls it."""
    try:
        config = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{source}:{error.lineno}:{error.colno}: not JSON: {error.msg}.") from None
    except RecursionError:
        raise ConfigError(f"{source}: nested too deeply.") from None
    except ConfigError as error:
        raise ConfigError(*(f"{source}: {mistake}" for mistake in error.mistakes)) from None
    if not isinstance(config, dict):
        raise ConfigError(f"{source}: a config is a JSON object, found {type(config).__name__}.")
    return with_long_sections(config)


def _no_number(name: str) -> None:
    raise ConfigError(f"{name} is not a number of JSON. Write a finite one, or null.")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen = dict(pairs)
    if len(seen) < len(pairs):
        keys = [key for key, _ in pairs]
        duplicates = sorted({key for key in keys if keys.count(key) > 1})
        raise ConfigError(f"the key {', '.join(map(repr, duplicates))} stands twice in one object.")
    return seen


def with_long_sections(config: Config) -> Config:
    """Write `"optimizer": "Adam"` out as a section, so that `--set optimizer.args.lr=1` has a place."""
    return {
        key: {"type": value, "args": {}} if key in NAMED_SECTIONS and isinstance(value, str) else value
        for key, value in config.items()
    }


def override(config: Config, assignments: Iterable[str]) -> Config:
    """A copy of `config` with `a.b.0.c=VALUE` assignments applied. VALUE is JSON; what is not JSON is a string.

    A section is set before what is in it, whatever the order: `--lr 0.1 --set optimizer=SGD` keeps the rate.

    Raises:
        ConfigError: an assignment has no `=`, or leads through a value that has no keys.
    """
    config = copy.deepcopy(config)
    for assignment in sorted(assignments, key=lambda text: text.partition("=")[0].count(".")):
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {assignment}: not an assignment. Write it as section.key=value.")
        _assign(config, key, _parse_value(text), assignment)
        config = with_long_sections(config)
    return config


def _parse_value(text: str) -> Any:
    if text in _LITERALS:
        return _LITERALS[text]
    for read in (json.loads, float):  # float reads .01 and 1., which JSON does not
        try:
            value = read(text)
        except ValueError:
            continue
        return value if not isinstance(value, float) or math.isfinite(value) else text
    return text


def _assign(config: Config, key: str, value: Any, assignment: str) -> None:
    *parents, last = key.split(".")
    holder: Any = config
    for name in parents:
        if isinstance(holder, dict) and holder.get(name, _MISSING) in (_MISSING, None):
            holder[name] = {}
        holder = _member(holder, name, assignment)
    if isinstance(holder, list):
        _member(holder, last, assignment)
        holder[int(last)] = value
    elif isinstance(holder, dict):
        holder[last] = value
    else:
        raise ConfigError(f"--set {assignment}: {'.'.join(parents)} is {holder!r}, which has no keys.")


def _member(holder: Any, name: str, assignment: str) -> Any:
    if isinstance(holder, dict):
        return holder[name]
    if isinstance(holder, list):
        if re.fullmatch(r"\d+", name) and int(name) < len(holder):
            return holder[int(name)]
        raise ConfigError(f"--set {assignment}: the list has items 0 to {len(holder) - 1}, found {name!r}.")
    raise ConfigError(f"--set {assignment}: {name!r} lies below {holder!r}, which has no keys.")


def changed_keys(old: Any, new: Any, prefix: str = "") -> list[str]:
    """The dotted keys whose values differ between two configs."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = list(old) + [key for key in new if key not in old]
        return [
            changed
            for key in keys
            for changed in changed_keys(old.get(key, _MISSING), new.get(key, _MISSING), f"{prefix}{key}.")
        ]
    return [] if old == new else [prefix.rstrip(".")]


def write_config(path: Path, config: Config) -> None:
    write_atomically(path, (json.dumps(config, indent=2, ensure_ascii=False) + "\n").encode())
