"""The file behind an error: a reader often raises an error without the name of the file that it reads."""

import os
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from utils.paths import shown_path

_CODE = (".py", ".pyc", ".so")
_MOST_ITEMS = 8  # of a tuple or list that is looked through: a sample, not the paths of a whole data set


def file_behind(error: BaseException) -> str | None:
    """The file that the error names, else the first one that a local variable holds, from the innermost line outwards;
    None where there is none, or the message has it already."""
    found: Any = error.filename if isinstance(error, OSError) else None
    if not isinstance(found, (str, os.PathLike)):
        origin = error.__cause__ or error.__context__
        frames = [*traceback.walk_tb(error.__traceback__), *(traceback.walk_tb(origin.__traceback__) if origin else ())]
        found = next((path for frame, _ in reversed(frames) for path in _files(frame.f_locals.values())), None)
    return None if found is None or str(found) in str(error) else shown_path(Path(found))


def _files(values: Any) -> Iterator[str | Path]:
    """The existing files among values and the items of short tuples and lists; no code."""
    for value in list(values):
        is_short = isinstance(value, (tuple, list)) and len(value) <= _MOST_ITEMS
        for item in value if is_short else (value,):
            if isinstance(item, (str, Path)) and str(item) and _is_data(str(item)):
                yield item


def _is_data(path: str) -> bool:
    is_code = path.endswith(_CODE) or "site-packages" in path or "dist-packages" in path
    return not is_code and os.path.isfile(path)  # False where the text cannot be a path
