"""The lines of code that led to an error, for messages that stand in the place of a traceback."""

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from utils.paths import PROJECT_ROOT


def told(error: BaseException, without: Sequence[Path] = (), most: int = 5) -> str:
    """The error, and below it the innermost lines of code that led to it, but for those in `without`."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(Path(frame.filename).is_relative_to(skipped) for skipped in without)
    ]
    lines = [f"  {frame.filename}:{frame.lineno} in {frame.name}: {frame.line}" for frame in frames[-most:]]
    return "\n".join([f"{type(error).__name__}: {error}", *lines])


def own_line(error: BaseException) -> str | None:
    """The innermost line in the project's own models, data and trainers, as `model/model.py:27`."""
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    own = [f"{path.relative_to(PROJECT_ROOT).as_posix()}:{line}" for path, line in frames if is_own(path)]
    return own[-1] if own else None


def is_project_module(name: str) -> bool:
    """Whether a module, by its name, is code of the person's own."""
    path = getattr(sys.modules.get(name), "__file__", None)
    return path is not None and is_own(Path(path))


def is_deliberate(error: BaseException) -> bool:
    """Whether the project's own code has raised it as a ValueError, with words of its own for what is wrong."""
    *_, last = traceback.extract_tb(error.__traceback__)
    return isinstance(error, ValueError) and is_own(Path(last.filename)) and (last.line or "").startswith("raise ")


def is_own(path: Path) -> bool:
    """Neither the run around the step, nor a library: the environment may lie in the project."""
    if not path.is_relative_to(PROJECT_ROOT):
        return False
    parts = path.relative_to(PROJECT_ROOT).parts
    return parts[0] not in ("base", "utils", "train.py", "test.py") and "site-packages" not in parts
