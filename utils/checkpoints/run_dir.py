"""A run's directory: made once, named by the clock, never shared."""

import itertools
import json
import re
import unicodedata
from datetime import datetime
from pathlib import Path
from typing import Any

from utils.checkpoints.checksum import checksum_of
from utils.checkpoints.environment import environment
from utils.config.loading import Config, write_config
from utils.errors import ConfigError, shown
from utils.files import write_atomically
from utils.paths import PathError, project_path

CONFIG, ENVIRONMENT, LOG, METRICS = "config.json", "environment.json", "train.log", "metrics.jsonl"
LOCK = ".lock"
LAST, BEST = "last.pth", "model_best.pth"
FAILURE = "failure.json"  # where a run came upon what is not finite
RUN_ID = re.compile(r"\d{8}-\d{6}(_\d+)?")  # a run directory's name: when it was made
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
    """Make `save_dir/name/<date>-<time>`, with a number behind it where that second is taken.

    Raises:
        ConfigError: the folder cannot be made.
    """
    parent = make_folder_of_runs(save_dir, name)
    run_id = datetime.now().strftime("%Y%m%d-%H%M%S")
    try:
        for number in itertools.count(2):
            try:
                (run_dir := parent / run_id).mkdir()
                return run_dir
            except FileExistsError:
                run_id = f"{run_id.split('_')[0]}_{number}"
    except OSError as error:
        raise _cannot_make(parent, error) from None
    raise AssertionError("itertools.count ended")


def make_folder_of_runs(save_dir: str, name: str) -> Path:
    """Make the folder for the run directories of this name, where it is missing.

    Raises:
        ConfigError: the folder cannot be made.
    """
    parent = folder_of_runs(save_dir, name)
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_make(parent, error) from None
    return parent


def folder_of_runs(save_dir: str, name: str) -> Path:
    """Where the run directories of this name are.

    Raises:
        ConfigError: `save_dir` cannot be a path.
    """
    try:
        return project_path(Path(save_dir) / name)
    except PathError as error:
        raise ConfigError(f"trainer.save_dir: {error}") from error


def _cannot_make(parent: Path, error: OSError) -> ConfigError:
    return ConfigError(f"trainer.save_dir: cannot make a run directory in {parent}: {error.strerror}.")


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


def note_end(run_dir: Path, reached: dict[str, Any]) -> None:
    """Note in the environment file the `epoch` and `monitor` of a finished run's last checkpoint.

    Raises:
        OSError: the file cannot be written.
    """
    starts = _starts(run_dir)
    if starts and isinstance(starts[-1], dict):
        starts[-1]["end"] = reached | {"checksum": checksum_of(run_dir / LAST)}
        write_atomically(run_dir / ENVIRONMENT, json.dumps(starts, indent=2).encode())


def noted_end(run_dir: Path) -> dict[str, Any] | None:
    """The `epoch` and `monitor` of a finished run's last checkpoint; None where they must be read from it."""
    starts = _starts(run_dir)
    end = starts[-1].get("end") if starts and isinstance(starts[-1], dict) else None
    if not isinstance(end, dict) or end.get("checksum") in (None, "") or end["checksum"] != checksum_of(run_dir / LAST):
        return None
    return end if isinstance(end.get("monitor"), dict) and isinstance(end.get("epoch"), int) else None


def _starts(run_dir: Path) -> list[Any]:
    try:
        starts = json.loads((run_dir / ENVIRONMENT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return starts if isinstance(starts, list) else []
