"""The lines of code that led to an error, for messages that stand in the place of a traceback."""

import inspect
import linecache
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from utils.known_secrets import hidden
from utils.paths import PROJECT_ROOT, shown_path

MOST_CHARACTERS = 300  # of the text of an error


def told(error: BaseException, without: Sequence[Path] = (), most: int = 5) -> str:
    """The error, and below it the innermost lines of code that led to it, but for those in `without`."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(Path(frame.filename).is_relative_to(skipped) for skipped in without)
    ]
    lines = [f"  {shown_path(Path(frame.filename))}:{frame.lineno}: {frame.line}" for frame in frames]
    return "\n".join([reason_of(error), *[*lines, *_definition(error)][-most:]])


def reason_of(error: BaseException) -> str:
    """The error in one line of a length that can be read."""
    text = hidden(" ".join(str(error).split()))
    text = text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def short_traceback(error: BaseException) -> str | None:
    """The error, and the lines of the person's own code that led to it; None where code of the template or of a library
    that it calls has failed, of which the whole traceback is wanted."""
    if isinstance(error, SyntaxError) and error.filename and is_own(Path(error.filename)):
        text = (error.text or "").strip()
        return f"{type(error).__name__}: {error.msg}\n  {shown_path(Path(error.filename))}:{error.lineno}: {text}"
    frames = traceback.extract_tb(error.__traceback__)
    mine = [i for i, frame in enumerate(frames) if is_own(Path(frame.filename))]
    of_template = [i for i, frame in enumerate(frames) if _is_in_project(Path(frame.filename)) and i not in mine]
    lines = [f"  {shown_path(Path(frames[i].filename))}:{frames[i].lineno}: {frames[i].line}" for i in mine[-3:]]
    definition = _definition(error)
    if not mine or (of_template and of_template[-1] > mine[-1]):
        lines, definition = [], definition or _class_of(error)
        if not definition:
            return None
    return "\n".join([reason_of(error), *lines, *definition])


def _definition(error: BaseException) -> list[str]:
    """The line of the person's function that was called with arguments that it does not take: no frame has it."""
    called = re.match(r"(\w+(?:\.\w+)*)\(\) (takes|missing|got) ", str(error))
    if not isinstance(error, TypeError) or not called:
        return []
    for module in [module for name, module in sys.modules.copy().items() if is_project_module(name)]:
        found: Any = module
        for name in called[1].split("."):
            found = getattr(found, name, None)
        code = getattr(inspect.unwrap(found) if callable(found) else None, "__code__", None)
        if code is not None and is_own(Path(code.co_filename)):
            line = linecache.getline(code.co_filename, code.co_firstlineno).strip()
            return [f"  {shown_path(Path(code.co_filename))}:{code.co_firstlineno}: {line}"]
    return []


def _class_of(error: BaseException) -> list[str]:
    """The person's class whose object lacks an attribute that the run reads, as without super().__init__()."""
    kind = type(getattr(error, "obj", None))
    if not isinstance(error, AttributeError) or not is_project_module(kind.__module__):
        return []
    code = getattr(vars(kind).get("__init__"), "__code__", None)
    if code is None:
        return []
    where = f"{shown_path(Path(code.co_filename))}:{code.co_firstlineno}"
    return [f"  {where}: call super().__init__(...) in {kind.__name__}.__init__, before anything else"]


def _is_in_project(path: Path) -> bool:
    return path.is_relative_to(PROJECT_ROOT) and "site-packages" not in path.parts


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
    return (
        isinstance(error, ValueError) and _is_in_project(Path(last.filename)) and (last.line or "").startswith("raise ")
    )


def is_own(path: Path) -> bool:
    """Neither the run around the step, nor a library: the environment may lie in the project."""
    if not path.is_relative_to(PROJECT_ROOT):
        return False
    parts = path.relative_to(PROJECT_ROOT).parts
    return parts[0] not in ("base", "extras", "logger", "utils", "train.py", "test.py") and "site-packages" not in parts
