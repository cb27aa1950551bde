"""Messages: short ones on the screen, dated ones in the run's log file."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tqdm import tqdm


class _ScreenHandler(logging.Handler):
    """Prints above a progress bar, not through it."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # a closed terminal or pipe ends the messages, not the run; the log file goes on
            tqdm.write(self.format(record), file=sys.stdout)
            sys.stdout.flush()


class _FileHandler(logging.FileHandler):
    """Loses what the disk refuses: messages must not end a run."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def messages_to_screen() -> Iterator[None]:
    """Show messages of level INFO and above while the block runs."""
    with _handler(_ScreenHandler(), "%(message)s"):
        yield


@contextmanager
def messages_to_file(path: Path) -> Iterator[None]:
    """Append messages to a file, too, while the block runs."""
    with _handler(_FileHandler(path, encoding="utf-8"), "%(asctime)s %(levelname)s %(message)s"):
        yield


@contextmanager
def _handler(handler: logging.Handler, form: str) -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    handler.setFormatter(logging.Formatter(form))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()
