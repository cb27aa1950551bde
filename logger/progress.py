"""A phase's progress: a bar on a terminal, a plain line now and then elsewhere; and its clock."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from tqdm import tqdm

from utils.distributed.processes import is_first

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30.0
tqdm.monitor_interval = 0  # no thread for it, of which tqdm warns where none can be started


class Progress:
    """Iterates over batches and measures. After the loop: `seconds`, `wait_seconds` without a batch, and what
    follows from them.

    `done`: how many of the `total` batches an earlier start has had.
    """

    def __init__(self, batches: Iterable[Any], total: int | None, title: str, done: int = 0):
        self._batches = batches
        self._title = title
        self._is_terminal = getattr(sys.stderr, "isatty", bool)() and is_first()
        self._bar = tqdm(
            total=total, desc=title, unit="batch", leave=False, initial=done, disable=not self._is_terminal
        )
        self._total = total
        self._done = done
        self._values = ""
        self._steps = self._items = 0
        self.wait_seconds = self.seconds = 0.0

    def __iter__(self) -> Iterator[Any]:
        start = self._next_line = asked = time.perf_counter()
        self._next_line += SECONDS_BETWEEN_LINES
        try:
            for batch in self._batches:
                self.wait_seconds += time.perf_counter() - asked
                yield batch
                asked = time.perf_counter()
                self.seconds = asked - start
            self.wait_seconds += time.perf_counter() - asked
        finally:
            self.seconds = time.perf_counter() - start
            self._bar.close()

    def update(self, items: int) -> None:
        """Count a finished step."""
        self._steps += 1
        self._items += items
        self._bar.update()
        if not self._is_terminal and time.perf_counter() >= self._next_line:
            self._next_line += SECONDS_BETWEEN_LINES
            log.info(self._line())

    def show(self, **values: float) -> None:
        """Put values behind the bar."""
        shown = [f"{name} {value:.4g}" for name, value in values.items()]
        self._values = "  ".join([*shown, f"{self.items_per_second:,.0f} items/s"])
        self._bar.set_postfix_str(self._values, refresh=False)

    @property
    def items_per_second(self) -> float:
        return self._items / self.seconds if self.seconds > 0 else 0.0

    @property
    def data_wait_share(self) -> float:
        """The part of the time, 0 to 1, in which the step had no batch."""
        return self.wait_seconds / self.seconds if self.seconds > 0 else 0.0

    def _line(self) -> str:
        total = f"/{self._total}" if self._total else ""
        done = self._done + self._steps
        left = f"  {self.seconds / self._steps * (self._total - done):.0f} s left" if self._total else ""
        return f"{self._title}  {done}{total} batches  {self._values}{left}"
