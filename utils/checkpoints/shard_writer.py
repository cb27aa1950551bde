"""Saving what the processes of a run hold in parts, while they train on."""

import shutil
from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

from utils.distributed.processes import from_first, is_first
from utils.distributed.shards import Shards

Entry = Callable[[], dict[str, Any]]


class ShardWriter:
    """Each process writes its parts, in the background; then the first one does what makes a checkpoint of them.

    Order of calls, by all processes together: `begin`, `then`, `finish`, before the next `begin`. `close` at any time.
    """

    def __init__(self) -> None:
        self._written: Future[Any] | None = None
        self._outcome: Future[bool] | None = None

    def begin(self, run_dir: Path, step: int, shards: Shards) -> Entry:
        """Write copies of the shards to a folder of their own. What is returned waits for that, and gives what the
        checkpoint says of the folder; or raises OSError where one of the processes could not write."""
        from utils.checkpoints.sharded_files import entry_of, new_folder, reason_of, start_writing

        folder = from_first(lambda: new_folder(run_dir, step))
        written = self._written = start_writing(folder, shards)

        def entry() -> dict[str, Any]:
            try:
                return entry_of(folder, written.result())
            except BaseException as error:
                shutil.rmtree(folder, ignore_errors=True)
                raise reason_of(error) from error

        return entry

    def then(self, conclude: Callable[[], bool]) -> None:
        """Have the first process do this, in the background, when all have written."""
        assert self._written is not None, "`begin` comes first"
        outcome = self._outcome = Future()

        def done(_: Future[Any]) -> None:
            try:
                outcome.set_result(conclude())
            except BaseException as error:
                outcome.set_exception(error)

        if is_first():
            self._written.add_done_callback(done)

    def finish(self) -> bool:
        """Wait for what was begun; whether the first process could do its part, if there was one.

        Raises:
            RunError: it could not, and the run is to stop then.
        """
        if self._written is not None:
            wait([self._written])
        written, outcome = self._written, self._outcome
        self._written = self._outcome = None
        return written is None or outcome is None or from_first(outcome.result)

    def close(self) -> None:
        """Wait for what this process has under way, whatever has become of the others."""
        wait([self._written] if self._written is not None else [])
        wait([self._outcome] if self._outcome is not None and is_first() else [])
