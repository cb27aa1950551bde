"""One process at a time in a run directory."""

import os
from pathlib import Path

from utils.distributed import is_first
from utils.errors import UserError
from utils.paths import shown_path
from utils.run_dir import LOCK

_FAR_BYTE = 1 << 30  # Windows locks out readers of the bytes locked: none are there


class RunLock:
    """`with RunLock() as lock: lock.take(run_dir)`. The lock lies on a file there, and ends with the process.

    It is one of POSIX's record locks, which belong to a process: a loader's workers, which outlive a killed run by some
    seconds, do not hold it.
    """

    def __init__(self) -> None:
        self._descriptors: list[int] = []

    def __enter__(self) -> "RunLock":
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    def release(self) -> None:
        """Give back what was taken."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def take(self, run_dir: Path) -> Path:
        """Lock the directory and return it. Of several processes of a run, the first has the lock for all.

        Raises:
            UserError: another process trains there; or nothing can be written there.
        """
        if not is_first():
            return run_dir
        try:
            descriptor = os.open(run_dir / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise UserError(f"{shown_path(run_dir)}: cannot be written to: {error.strerror}.") from None
        self._descriptors.append(descriptor)
        if not _try_lock(descriptor):
            raise UserError(
                f"{shown_path(run_dir)}: another process is training there; environment.json says which, on which host."
            )
        return run_dir


def _try_lock(descriptor: int) -> bool:
    """Try to lock the open file; whether it is ours now. Where the file system knows no locks, it always is."""
    try:
        import fcntl
    except ImportError:
        return _try_on_windows(descriptor)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _FAR_BYTE)
    except (BlockingIOError, PermissionError):  # POSIX allows either
        return False
    except OSError:
        return True
    return True


def _try_on_windows(descriptor: int) -> bool:
    import msvcrt

    os.lseek(descriptor, _FAR_BYTE, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError:
        return False
    return True
