"""Configs: read with what they extend, compared, written. Imports nothing heavy, so that mistakes show at once."""

import json
import math
import os
import re
from pathlib import Path
from typing import Any

from utils.config.files import read_config_file
from utils.config.numerals import float_or_whole, number_in
from utils.config.places import Place, Places
from utils.encoding import ESCAPED
from utils.errors import ConfigError, UserError, shown
from utils.files import write_atomically
from utils.known_secrets import remember_all
from utils.paths import PathError, project_path, shown_path, usable_path
from utils.secrets import is_secret

Config = dict[str, Any]

# Sections that name one callable: "Adam" is short for {"type": "Adam", "args": {}}.
NAMED_SECTIONS = ("model", "dataset", "loss", "optimizer", "lr_scheduler", "trainer")

_ENV = re.compile(r"\$\{env:([^}]*)\}")
_LITERALS = {"True": True, "False": False, "None": None}
_MISSING = object()


def load_config(path: str | Path, places: Places | None = None) -> Config:
    """Read a config of the user's own: with what it extends, and with `${env:NAME}` replaced.

    `places` is told where each value was written.

    Raises:
        UserError: a file is missing, unreadable, or not a config.
    """
    found = Places()
    config = _with_what_it_extends(Path(path), found, ())
    if places is not None:
        places.by_key.update(found.by_key)
    return config


def load_saved_config(path: Path, places: Places | None = None) -> Config:
    """Read the config of a run, as it stands: it may have come from elsewhere, so it reads no file or variable here.

    Raises:
        UserError: as `load_config`; or it asks for that.
    """
    config, found = read_config_file(path)
    check_saved_config(config, found)
    if places is not None:
        places.by_key.update(found.by_key)
    return with_long_sections(config)


def check_saved_config(config: Config, places: Places) -> None:
    _check_keys(config)
    keys = [".".join(map(str, path)) for path, _ in _references(config)]
    mistakes = [f"{key}: ${{env:...}} is read in a file that you give with -c only." for key in keys]
    if "extends" in config:
        mistakes.append("extends: is followed in a file that you give with -c only.")
    if mistakes:
        raise ConfigError(*map(places.located, mistakes))


def _check_keys(value: Any) -> None:
    """A checkpoint can hold what no file can."""
    if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
        raise ConfigError("config: the checkpoint's has keys that are no text.")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_keys(item)


def _with_what_it_extends(path: Path, places: Places, chain: tuple[Path, ...]) -> Config:
    path = usable_path(path)
    config, own_places = read_config_file(path)
    _read_environment(config, own_places)
    bases = config.pop("extends", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(own_places.located(f"extends: found {bases!r}. Write a file name, or a list of them."))
    chain = (*chain, path.resolve())
    extended: Config = {}
    for base in bases:
        try:
            file = usable_path(base, path.parent)
        except PathError as error:
            raise ConfigError(own_places.located(f"extends: {error}")) from error
        if file.resolve() in chain:
            names = " -> ".join(shown_path(link) for link in (*chain, file.resolve()))
            raise ConfigError(own_places.located(f"extends: goes round in circles: {names}."))
        if not file.is_file():
            raise ConfigError(own_places.located(f"extends: there is no {shown_path(file)}."))
        base_places = Places()
        base_config = _with_what_it_extends(file, base_places, chain)
        extended = _merged(extended, base_config, "", places, base_places)
    return _merged(extended, with_long_sections(config), "", places, own_places)


def _merged(base: Any, own: Any, key: str, places: Places, own_places: Places) -> Any:
    """`own` over `base`, section by section; `places` become those of what is left."""
    if not isinstance(base, dict) or not isinstance(own, dict):
        places.forget(key)
        written = {name: place for name, place in own_places.by_key.items() if f"{name}.".startswith(f"{key}.")}
        places.by_key.update(written)
        return own
    merged = kept_of(base, own.get("type"), key)
    for name in [name for name, value in base.items() if merged.get(name, _MISSING) is not value]:
        places.forget(below(key, name))
    if key in own_places.by_key:
        places.by_key[key] = own_places.by_key[key]
    for name, value in own.items():
        merged[name] = _merged(merged.get(name), value, below(key, name), places, own_places)
    return merged


def below(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def kept_of(section: Config, name: Any, key: str) -> Config:
    """What of a section still means something when its type becomes `name`: all if that is its type already; of the
    trainer, the run's settings; else nothing."""
    if name is None or section.get("type", "Trainer" if key == "trainer" else name) == name:
        return dict(section)
    kept = {option: value for option, value in section.items() if key == "trainer" and option not in ("type", "args")}
    return kept | {"args": {}}


def _references(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], str]]:
    """The paths and texts of what refers to the environment in a config."""
    if isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [found for name, item in items for found in _references(item, (*path, name))]
    return [(path, value)] if isinstance(value, str) and _ENV.search(value) else []


def _read_environment(config: Config, places: Places) -> None:
    """Replace each `${env:NAME}`. What is nothing else is read as behind `--set`: "8" is a number where one belongs."""
    mistakes = []
    for path, text in _references(config):
        names, key = _ENV.findall(text), ".".join(map(str, path))
        if missing := [name for name in names if name not in os.environ]:
            mistakes.append(f"{key}: the environment has no {', '.join(missing)}. Set it, or write the value.")
            continue
        found = _ENV.sub(lambda match: os.environ[match[1]], text)
        is_whole = _ENV.fullmatch(text) is not None
        holder: Any = config
        for name in path[:-1]:
            holder = holder[name]
        holder[path[-1]] = value_of(found) if is_whole else found
        written = places.by_key.get(key, places.by_key[""])
        is_one = any(is_secret(name) for name in names if name not in ("PWD", "OLDPWD"))  # those are folders
        remember_all([os.environ[name] for name in names if is_one])
        places.by_key[key] = Place(written.name, found if is_whole else None, is_one)
    if mistakes:
        raise ConfigError(*map(places.located, mistakes))


def value_of(text: str) -> Any:
    """What a typed text means where nothing says otherwise: JSON; what is not JSON is text."""
    if text in _LITERALS:
        return _LITERALS[text]
    number = number_in(text)
    if number is not None:
        return number if math.isfinite(number) else text
    try:
        return json.loads(
            text, object_pairs_hook=_without_duplicates, parse_constant=_finite, parse_float=_finite, parse_int=_finite
        )
    except (ValueError, RecursionError):
        return text


def _finite(text: str) -> int | float:
    value = float_or_whole(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ConfigError(f"{shown(dict(pairs))}: a key stands twice in one object.")
    return dict(pairs)


def with_long_sections(config: Config) -> Config:
    """Write `"optimizer": "Adam"` out as a section, so that `--set optimizer.args.lr=1` has a place."""
    return {
        key: {"type": value, "args": {}} if key in NAMED_SECTIONS and isinstance(value, str) else value
        for key, value in config.items()
    }


def changed_keys(old: Any, new: Any, prefix: str = "") -> list[str]:
    """The dotted keys whose values differ between two configs."""
    if isinstance(old, dict) and isinstance(new, dict) and old != new:
        keys = list(old) + [key for key in new if key not in old]
        return [
            changed
            for key in keys
            for changed in changed_keys(old.get(key, _MISSING), new.get(key, _MISSING), f"{prefix}{key}.")
        ]
    return [] if old == new or _is_same_path(old, new) else [prefix.rstrip(".")]


def _is_same_path(old: Any, new: Any) -> bool:
    """Whether two texts are spellings of one path: absolute, through a link, with `..`, relative to the project."""
    if not (isinstance(old, str) and isinstance(new, str) and ("/" in old or "/" in new or os.sep in old + new)):
        return False
    try:
        return os.path.realpath(project_path(old)) == os.path.realpath(project_path(new))
    except UserError:
        return False


def config_text(config: Config) -> str:
    return json.dumps(config, indent=2, ensure_ascii=False) + "\n"


def write_config(path: Path, config: Config) -> None:
    write_atomically(path, config_text(config).encode(errors=ESCAPED))
