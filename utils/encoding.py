"""Text for streams and files whose encoding lacks some of its characters: those are escaped as in JSON.

So no message is lost on a screen of cp1252, cp949 or ASCII, and what is JSON stays JSON.
"""

import codecs
import json
import os
import sys
from contextlib import suppress
from typing import TextIO

ESCAPED = "json_escaped"  # for `errors=`
_SPACES = "\n\t\u00a0\u3000"  # that Python does not count as printable


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


codecs.register_error(ESCAPED, _escape)


def visible(text: str) -> str:
    """The text with control characters escaped, but for tabs and line breaks: a name in a file cannot steer a terminal
    by escape sequences, or reverse the order of what follows."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in _SPACES else json.dumps(char)[1:-1] for char in text)


def print_visible(text: str, file: TextIO | None = None) -> None:
    """Print a text that quotes names from files."""
    print(visible(text), file=file)


def escape_on_screen() -> None:
    """Have stdout and stderr escape what they cannot encode, instead of raising."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's has none, and is UTF-8
            with suppress(OSError, ValueError):  # a file that others write to, too, or one that is closed
                stream.reconfigure(errors=ESCAPED)


def discard(stream: TextIO | None) -> OSError | None:
    """Write what a stream has in its buffer. If that is refused, drop it, so that neither the next text nor the end of
    the program fails on it; return the error."""
    try:
        if stream is not None and not getattr(stream, "closed", False):  # a notebook's may lack that
            stream.flush()
    except OSError as error:
        with suppress(OSError, ValueError):
            number = stream.fileno()  # type: ignore[union-attr]
            kept, null = os.dup(number), os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, number)
            stream.flush()  # type: ignore[union-attr]
            os.dup2(kept, number)
            os.close(kept)
            os.close(null)
        return error
    return None
