"""Messages: short ones on the screen, dated ones in the run's log file."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from utils.checkpoints.run_dir import LOG
from utils.distributed.processes import is_first
from utils.encoding import ESCAPED, discard, visible
from utils.errors import RunError, Stopped, UserError, note_run
from utils.files import open_own_file
from utils.known_secrets import hidden

log = logging.getLogger(__name__)


class _Formatter(logging.Formatter):
    """Hides secrets and escapes control characters: messages quote texts from files."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(hidden(super().format(record)))


class _ScreenHandler(logging.Handler):
    """Prints above a progress bar, not through it. Keeps what was said before there was a file for it."""

    def __init__(self) -> None:
        super().__init__()
        self.early: list[logging.LogRecord] | None = []

    def emit(self, record: logging.LogRecord) -> None:
        if self.early is not None:
            self.early.append(record)
        if sys.stdout is None:  # a command may be started without one
            return
        with suppress(OSError, ValueError):  # a closed terminal or pipe ends the messages, not the run
            tqdm.write(self.format(record), file=sys.stdout)
        discard(sys.stdout)


class _FileHandler(logging.FileHandler):
    """Loses what the disk refuses: messages must not end a run."""

    def _open(self) -> Any:
        try:
            return open(self.baseFilename, self.mode, encoding=self.encoding, errors=self.errors, opener=open_own_file)
        except OSError as error:
            log.warning("%s cannot be written: %s.", self.baseFilename, error.strerror)
            return open(os.devnull, "w", encoding=self.encoding)

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def messages_to_screen() -> Iterator[None]:
    """Show messages of level INFO and above while the block runs; of several processes, those of the first."""
    if is_first():
        with _handler(_ScreenHandler(), "%(message)s"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This DataLoader will create ")  # said by the data loader, and not twice
            yield
    else:
        with _handler(logging.NullHandler(), ""), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield


@contextmanager
def messages_to_file(run_dir: Path) -> Iterator[None]:
    """Append messages to the log of a run: those before the block, those while it runs, and the error that ends it."""
    if not is_first():
        try:
            yield
        except BaseException as error:
            note_run(error)
            raise
        return
    handler = _FileHandler(run_dir / LOG, encoding="utf-8", errors=ESCAPED)
    with _handler(handler, "%(asctime)s %(levelname)s %(message)s"):
        for screen in [other for other in logging.getLogger().handlers if isinstance(other, _ScreenHandler)]:
            for record in screen.early or ():
                handler.handle(record)
            screen.early = None
        try:
            yield
        except BaseException as error:
            note_run(error)
            is_told = isinstance(error, (UserError, RunError, Stopped))
            trace = None if is_told else (type(error), error, error.__traceback__)
            what = (type(error).__name__, error)
            handler.handle(logging.LogRecord(__name__, logging.ERROR, __file__, 0, "Ended by %s: %s", what, trace))
            raise


@contextmanager
def _handler(handler: logging.Handler, form: str) -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    handler.setFormatter(_Formatter(form))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()
