"""Where values go. A writer that fails is reported once and dropped: logging must not end a run."""

import errno
import json
import logging
import math
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from utils.files import open_own_file, write_atomically
from utils.paths import shown_path

log = logging.getLogger(__name__)
Picture = Tensor | Callable[[], Tensor]


class Writer:
    """Does nothing with everything; a writer overrides what it can show. Order of calls: any, then `close` once."""

    def epoch(self, values: dict[str, float]) -> None:
        """The values of an epoch, `epoch` and `step` among them."""

    def step(self, values: dict[str, float], step: int) -> None:
        """Values of one step."""

    def matrix(self, tag: str, matrix: Tensor, step: int) -> None:
        """A matrix (rows, columns), such as counts of outputs by target."""

    def picture(self, tag: str, picture: Picture, step: int) -> None:
        """(3, height, width), uint8 or from 0 to 1; or a function that draws it, which is called only where it is
        shown."""

    def text(self, tag: str, text: str, step: int) -> None:
        """Text as it is, such as a sample of what a model writes."""

    def histograms(self, modules: dict[str, nn.Module], step: int) -> None:
        """The distribution of every parameter."""

    def flush(self) -> None: ...

    def close(self, values: dict[str, float]) -> None:
        """The run has ended with these values (empty if it ended before its first epoch)."""


class Writers:
    """Calls every writer. Empty, it is silent."""

    def __init__(self, *writers: Writer):
        self._writers = list(writers)
        self._has_told: set[tuple[str, ...]] = set()

    def epoch(self, values: dict[str, float]) -> None:
        self._each("epoch", values)
        self._each("flush")

    def step(self, values: dict[str, float], step: int) -> None:
        self._each("step", values, step)

    def matrix(self, tag: str, matrix: Tensor, step: int) -> None:
        self._each("matrix", tag, matrix, step)

    def matrices_in(self, values: dict[str, Any], phase: str, step: int) -> dict[str, float]:
        """Write the matrices among the values of a phase; return the others."""
        matrices = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        for name, matrix in matrices.items():
            self.matrix(f"{name}/{phase}", matrix, step)
        return {name: value for name, value in values.items() if name not in matrices}

    def picture(self, tag: str, picture: Picture, step: int) -> None:
        self._each("picture", tag, picture, step)

    def text(self, tag: str, text: str, step: int) -> None:
        self._each("text", tag, text, step)

    def histograms(self, modules: dict[str, nn.Module], step: int) -> None:
        self._each("histograms", modules, step)

    def close(self, values: dict[str, float]) -> None:
        self._each("close", values)

    def _each(self, method: str, *arguments: Any) -> None:
        for writer in list(self._writers):
            try:
                getattr(writer, method)(*arguments)
            except OSError as error:  # the disk is full, or the folder was deleted: the next call would fail, too
                self._writers.remove(writer)
                log.warning("%s cannot write any more, training continues without it: %s", _name(writer), error)
            except Exception as error:  # of one value, which a person's code has given: the others are written
                what = " ".join([method, *(argument for argument in arguments[:1] if isinstance(argument, str))])
                if (_name(writer), what) not in self._has_told:
                    self._has_told.add((_name(writer), what))
                    log.warning("%s: %s is not written: %s: %s", _name(writer), what, type(error).__name__, error)


def _name(writer: Writer) -> str:
    return type(writer).__name__


class JSONLWriter(Writer):
    """One JSON object an epoch in `metrics.jsonl`. A resumed run goes on after the lines up to its epoch.

    A line that the disk refuses is kept, and written with the next one.
    """

    def __init__(self, path: Path, after_epoch: int = 0):
        self._path = path
        self._unwritten = b""
        try:
            self._keep_lines(after_epoch)
        except OSError as error:
            log.warning("%s: %s. It may have lines of what is done again now.", shown_path(path), error.strerror)

    def _keep_lines(self, after_epoch: int) -> None:
        lines = []
        with suppress(FileNotFoundError), open(self._path, "rb", opener=open_own_file) as file:
            lines = file.readlines()
        epochs = [_epoch_of(line) for line in lines]
        kept = [line for line, epoch in zip(lines, epochs, strict=True) if epoch is not None and epoch <= after_epoch]
        if len(kept) < after_epoch:
            log.warning("%s has the values of %d epochs out of %d.", shown_path(self._path), len(kept), after_epoch)
        if len(kept) < len(lines):
            write_atomically(self._path, b"".join(kept))

    def epoch(self, values: dict[str, float]) -> None:
        self._unwritten += to_json(values).encode() + b"\n"
        try:
            with open(self._path, "ab", buffering=0, opener=open_own_file) as file:
                size = file.tell()
                if file.write(self._unwritten) < len(self._unwritten):
                    file.truncate(size)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                with suppress(OSError):  # a disk that fails is reported when the checkpoint is saved
                    os.fsync(file.fileno())  # so that no checkpoint outlives the line of its epoch
        except OSError as error:
            log.warning("%s: %s. The line is kept for the next epoch.", shown_path(self._path), error.strerror)
        else:
            self._unwritten = b""


def to_json(values: dict[str, float]) -> str:
    """One line of JSON; what is not finite is null, since JSON has no word for it."""
    return json.dumps({name: value if math.isfinite(value) else None for name, value in values.items()})


def _epoch_of(line: bytes) -> int | None:
    """None for a line that is damaged, or was cut off by a crash."""
    try:
        epoch = json.loads(line)["epoch"]
    except (ValueError, KeyError, TypeError):
        return None
    return epoch if isinstance(epoch, int) else None
