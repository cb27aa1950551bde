"""A run's directory: made once, named by the clock, never shared."""

import itertools
import json
import re
import unicodedata
from datetime import datetime
from pathlib import Path
from typing import Any

from utils.config.loading import Config, write_config
from utils.distributed import from_first
from utils.environment import environment
from utils.errors import ConfigError, shown
from utils.files import write_atomically
from utils.paths import PathError, project_path

CONFIG, ENVIRONMENT, LOG, METRICS = "config.json", "environment.json", "train.log", "metrics.jsonl"
LOCK = ".lock"
FAILURE = "failure.json"  # where a run came upon what is not finite
_ALLOWED, _MOST_CHARACTERS, _MOST_BYTES = "._+-", 100, 200  # a folder's name has up to 255 bytes, and `-5folds` follows
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # taken by Windows


def check_name(name: object) -> str | None:
    """What is wrong with a run's name, or None. It becomes a folder below `save_dir`, and must not lead elsewhere."""
    if not isinstance(name, str) or not name:
        return f"name: found {shown(name)}. Write a name of letters and numbers."
    size = len(name.encode(errors="replace"))
    wrong = [character for character in name if not (_is_of_a_word(character) or character in _ALLOWED)]
    if wrong:
        why = f"it has the character {wrong[0]!r}. Use letters and numbers of any language, and . _ + -"
    elif not (name[0].isalnum() or name[0] == "_") or name.endswith("."):
        why = "a folder's name begins with a letter, number or _, and does not end with a dot"
    elif _DEVICE.fullmatch(name):
        why = "Windows has a device of that name. Choose another one"
    elif len(name) > _MOST_CHARACTERS or size > _MOST_BYTES:
        why = f"it has {len(name)} characters in {size} bytes. Write at most {_MOST_CHARACTERS} in {_MOST_BYTES}"
    else:
        return None
    return f"name: {shown(name)} cannot name a run: {why}."


def _is_of_a_word(character: str) -> bool:
    """A letter, a number, or a mark on one: of a decomposed accent, a vowel in Devanagari."""
    return character.isalnum() or unicodedata.category(character).startswith("M")


def create_run_dir(save_dir: str, name: str) -> Path:
    """Make `save_dir/name/<date>-<time>`, with a number behind it where that second is taken; one for all processes of
    a run.

    Raises:
        ConfigError: the folder cannot be made.
    """
    return from_first(lambda: _create(folder_of_runs(save_dir, name)))


def folder_of_runs(save_dir: str, name: str) -> Path:
    """Where the run directories of this name are.

    Raises:
        ConfigError: `save_dir` cannot be a path.
    """
    try:
        return project_path(Path(save_dir) / name)
    except PathError as error:
        raise ConfigError(f"trainer.save_dir: {error}") from error


def _create(parent: Path) -> Path:
    run_id = datetime.now().strftime("%Y%m%d-%H%M%S")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(2):
            try:
                (run_dir := parent / run_id).mkdir()
                return run_dir
            except FileExistsError:
                run_id = f"{run_id.split('_')[0]}_{number}"
    except OSError as error:
        raise ConfigError(f"trainer.save_dir: cannot make a run directory in {parent}: {error.strerror}.") from None
    raise AssertionError("itertools.count ended")


def is_run_dir(folder: Path) -> bool:
    """Whether it has a config and something that only a run writes; either may be lost or deleted."""
    return (folder / CONFIG).is_file() and any((folder / name).is_file() for name in (ENVIRONMENT, METRICS, LOG))


def describe_run(run_dir: Path, config: Config) -> None:
    """Write what it takes to repeat the run: the resolved config, and the environment of each start."""
    write_config(run_dir / CONFIG, config)
    content = json.dumps([*_starts(run_dir), environment()], indent=2)
    write_atomically(run_dir / ENVIRONMENT, content.encode())


def last_job(run_dir: Path) -> str | None:
    """Which job has started the run, or gone on with it, last."""
    starts = _starts(run_dir)
    return starts[-1].get("job") if starts and isinstance(starts[-1], dict) else None


def _starts(run_dir: Path) -> list[Any]:
    try:
        starts = json.loads((run_dir / ENVIRONMENT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return starts if isinstance(starts, list) else []
