"""One process at a time in a run directory."""

import json
import logging
import os
import platform
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from utils.checkpoints.run_dir import LOCK
from utils.distributed.processes import is_first
from utils.errors import RunError, UserError
from utils.files import open_own_file
from utils.paths import shown_path

log = logging.getLogger(__name__)
_FAR_BYTE = 1 << 30  # Windows locks out readers of the bytes locked: none are there
_MOST_BYTES = 1000  # of a holder


class LostRun(RunError):
    """Another process has taken the run directory over."""


class RunLock:
    """`with RunLock() as lock: lock.take(run_dir)`; `claim` when the run starts; `check` before each save.

    Two mechanisms: a lock on a file, which ends with the process, and the file's content, which names the process that
    started last. The content decides where a lock cannot: on file systems without locks, between machines that do not
    share them, and after the file or the directory was deleted. There the newest start wins, and the older process
    stops before it writes again.

    The lock is one of POSIX's record locks, which belong to a process: a loader's workers, which outlive a killed run
    by some seconds, do not hold it.
    """

    def __init__(self) -> None:
        self._run_dir: Path | None = None
        self._descriptor = -1
        self._holder: dict[str, Any] = {}
        self._version: tuple[int, ...] = ()  # of the file with the holder
        self._lost: LostRun | None = None

    def __enter__(self) -> "RunLock":
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    def release(self) -> None:
        """Unlock the directory, if one was taken."""
        if self._run_dir is not None:
            with suppress(OSError):  # of a network drive that was lost
                os.close(self._descriptor)
        self._run_dir = None

    def take(self, run_dir: Path, wait_seconds: float = 0.0) -> Path:
        """Lock the directory and return it. Of several processes of a run, the first has the lock for all.

        Raises:
            UserError: another process trains there; or nothing can be written there.
        """
        if not is_first():
            return run_dir
        end = time.monotonic() + wait_seconds
        while (descriptor := _open_locked(run_dir)) < 0:
            if time.monotonic() >= end:
                raise UserError(
                    f"{shown_path(run_dir)}: another process is training there; environment.json says which, on which "
                    "host."
                )
            time.sleep(0.05)
        self._run_dir, self._descriptor, self._version = run_dir, descriptor, ()
        return run_dir

    def claim(self) -> None:
        """Write into the file that this process continues the run from now on."""
        if self._run_dir is None:
            return
        since = datetime.now().isoformat(" ", timespec="seconds")
        self._holder = {"id": uuid4().hex, "host": platform.node(), "process": os.getpid(), "since": since}
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        os.write(self._descriptor, json.dumps(self._holder).encode())
        self._version = _version_of(self._run_dir)

    def check(self) -> None:
        """Make sure that the directory is still this process's own. A deleted file is made again.

        Raises:
            LostRun: another process has taken it.
        """
        if self._lost is not None:
            raise self._lost
        if self._run_dir is None or not self._holder or not os.path.isdir(self._run_dir):
            return
        if self._version and self._version == _version_of(self._run_dir):
            return
        holder = _holder_in(self._run_dir)
        if holder and holder.get("id") != self._holder["id"]:
            who = f"process {holder.get('process')} on {holder.get('host')}"
            raise LostRun(
                f"{shown_path(self._run_dir)}: {who} continues this run since {holder.get('since')}. This process "
                "stops, and does not save."
            )
        run_dir = self._run_dir
        self.release()
        try:
            self.take(run_dir)
        except UserError as error:
            self._lost = LostRun(str(error))
            raise self._lost from None
        with suppress(OSError):  # a full disk; the next check tries again
            self.claim()


def _version_of(run_dir: Path) -> tuple[int, ...]:
    """Numbers that change when the lock file is written to or replaced; none where it is missing."""
    try:
        found = os.stat(run_dir / LOCK)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _holder_in(run_dir: Path) -> dict[str, Any]:
    try:
        with open(run_dir / LOCK, "rb", opener=open_own_file) as file:
            holder = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _open_locked(run_dir: Path) -> int:
    """Open the lock file and lock it; return its descriptor, or -1 where another process holds the lock."""
    try:
        descriptor = open_own_file(run_dir / LOCK, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise UserError(f"{shown_path(run_dir)}: cannot be written to: {error.strerror}.") from None
    is_locked = _try_lock(descriptor)
    if is_locked is False:
        os.close(descriptor)
        return -1
    if is_locked is None:
        log.warning(
            "%s: this file system has no locks. If another process trains there, it will stop before its next save.",
            shown_path(run_dir),
        )
    return descriptor


def _try_lock(descriptor: int) -> bool | None:
    """Try to lock the open file: whether that worked; None where the file system has no locks."""
    try:
        import fcntl
    except ImportError:
        return _try_on_windows(descriptor)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _FAR_BYTE)
    except (BlockingIOError, PermissionError):  # POSIX allows either
        return False
    except OSError:
        return None
    return True


def _try_on_windows(descriptor: int) -> bool:
    import msvcrt

    os.lseek(descriptor, _FAR_BYTE, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError:
        return False
    return True
