"""Where in the forward pass a backward pass begins to fail: torch's warning and its error, put into one message."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from utils.errors import RunError
from utils.frames import is_own
from utils.paths import shown_path

_HEARD = r"\s*(Error detected in|Previous calculation was induced by)"
_EXPLAINED = ("returned nan values", "modified by an inplace operation")
_TORCH = Path(torch.__file__).resolve().parent
_HERE = Path(__file__).resolve().parent  # whose watches are called in between
_FRAME = re.compile(r'File "(.+)", line (\d+), in (.+)(?:\n    (.+))?')


class BackwardError(RunError):
    """A backward pass has failed; the message names the line of the forward pass that it belongs to."""


@contextmanager
def detect_anomaly(is_asked: bool = True) -> Iterator[None]:
    """Have torch look at each gradient while the block runs. Steps take several times as long.

    Raises:
        BackwardError: one is not a number, or cannot be computed since its input was changed in place.
    """
    if not is_asked:
        yield
        return
    with torch.autograd.set_detect_anomaly(True), explained_backward():
        yield


@contextmanager
def explained_backward() -> Iterator[None]:
    """Explain what torch finds where its anomaly detection is on; `detect_anomaly` is, all the time.

    Raises:
        BackwardError: it has found something.
    """
    heard: list[Warning] = []
    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=_HEARD)
        show = warnings.showwarning

        def listen(message: Any, *arguments: Any, **options: Any) -> None:
            if re.match(_HEARD, str(message)):
                heard.append(message)
            else:
                show(message, *arguments, **options)

        warnings.showwarning = listen
        try:
            yield
        except RuntimeError as error:
            if any(words in str(error) for words in _EXPLAINED):
                found = str(error).partition(" Hint:")[0]
                raise BackwardError("\n".join([f"in the backward pass: {found}", *_forward_calls(heard)])) from error
            for warning in heard:
                show(warning, type(warning), __file__, 0)
            raise


def _forward_calls(heard: list[Warning]) -> Iterator[str]:
    """Of each stack that torch has kept, the innermost call in the project's own code, and in a library that it uses.
    More than one where a gradient is itself computed from gradients."""
    for words, warning in zip(("Its forward call", *["which goes back to"] * len(heard)), heard, strict=False):
        frames = [(Path(file).resolve(), *others) for file, *others in _FRAME.findall(str(warning))]
        own = [frame for frame in frames if is_own(frame[0])]
        outside_torch = [frame for frame in frames if not frame[0].is_relative_to(_TORCH) and frame[0].parent != _HERE]
        for path, line, function, source in dict.fromkeys(own[-1:] + outside_torch[-1:]):
            yield f"{words}: {shown_path(path)}:{line} in {function}" + f": {source}" * bool(source)
            words = "in there"
