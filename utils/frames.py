"""The lines of code that led to an error, for messages that stand in the place of a traceback."""

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
    ours = [PROJECT_ROOT / name for name in ("utils", "base", "train.py", "test.py")]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        is_own = path.is_relative_to(PROJECT_ROOT) and "site-packages" not in path.parts
        if is_own and not any(path.is_relative_to(folder) for folder in ours):
            return f"{path.relative_to(PROJECT_ROOT).as_posix()}:{frame.lineno}"
    return None
