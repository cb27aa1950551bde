"""Files that are either the old version or the new one, whatever happens in between."""

import errno
import logging
import os
import shutil
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

log = logging.getLogger(__name__)
_NOT_SUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}
_has_warned: set[str] = set()


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a temporary file, flush it to the disk, and replace `path` by it.

    `content`: the bytes, or a function that writes them to the open file.
    """
    write_under_names([path], content)


def write_under_names(
    paths: Sequence[Path], content: bytes | Callable[[BinaryIO], object], check: Callable[[Path], object] | None = None
) -> None:
    """Write one file with several names in a folder. The last name is replaced after all others.

    `check`: inspects the temporary file before it replaces anything, and raises if the file is not good.
    """
    temporary = _temporary(paths[-1])
    try:
        with open(temporary, "xb") as file:  # x: does not follow a link
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            if not _can_flush(file.fileno()):
                _warn_once(f"{temporary.parent}: files there cannot be flushed. A power failure may damage the newest.")
        if check is not None:
            check(temporary)
        for path in paths[:-1]:
            link_atomically(temporary, path)
        os.replace(temporary, paths[-1])
    except BaseException:
        with suppress(OSError):  # the first error is the one to report
            temporary.unlink()
        raise
    _flush_folder(paths[-1].parent)


def link_atomically(source: Path, target: Path) -> None:
    """Give a file a second name: a hard link, or a copy where the file system has no hard links."""
    temporary = _temporary(target)
    try:
        os.link(source, temporary)
    except OSError:
        from utils.disk import readable_size  # imports torch, which most commands with files do not need

        size = readable_size(source.stat().st_size)
        _warn_once(f"{target.parent}: has no hard links. Each name of a checkpoint is a copy of {size}.")
        with open(source, "rb") as original:
            write_atomically(target, lambda copy: shutil.copyfileobj(original, copy, 1 << 20))
        return
    os.replace(temporary, target)
    temporary.unlink(missing_ok=True)  # POSIX: replacing a file by itself leaves both names


def write_named_file(path: Path, content: bytes) -> None:
    """Write to a path that a person chose. A regular file is replaced, also behind a link; a device, a pipe or the
    command's own output is written to.

    Raises:
        OSError: the path is a folder or a socket, or cannot be written to.
    """
    target, own_output = Path(os.path.realpath(path)), _own_output(path)
    if own_output is None and (target.is_file() or not path.exists()):
        return write_atomically(target, content)
    with open(path if own_output is None else os.dup(own_output), "wb", buffering=0) as file:
        left = memoryview(content)
        while left:
            left = left[file.write(left) :]


def _own_output(path: Path) -> int | None:
    """The descriptor of this command's own output, where a path such as /dev/stdout leads to it."""
    for descriptor in (1, 2):
        with suppress(OSError):  # a command may be started without one
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                return descriptor
    return None


def open_own_file(path: str | Path, flags: int) -> int:
    """The `opener` for a file of a run directory that is not replaced as a whole: a link there is replaced, not
    followed.

    Raises:
        OSError: the path is a folder, a pipe or a device, or cannot be opened.
    """
    if os.path.islink(path):
        os.unlink(path)
    elif os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0), 0o666)


def temporary_files(folder: Path) -> list[Path]:
    """The files that a kill in the middle of a write has left in a folder."""
    return sorted(folder.glob(".*.tmp"))


def _temporary(path: Path) -> Path:
    """A name that no other process uses."""
    return path.with_name(f".{uuid4().hex}.tmp")


def _can_flush(descriptor: int) -> bool:
    """Flush to the disk; return False where the file system does not offer that."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        return False
    return True


def _flush_folder(folder: Path) -> None:
    """Flush the names in a folder, where the system and the file system can."""
    if os.name == "nt":  # Windows cannot open a folder
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder that may be written to, but not listed
        return
    try:
        _can_flush(descriptor)
    finally:
        os.close(descriptor)


def _warn_once(message: str) -> None:
    if message not in _has_warned:
        _has_warned.add(message)
        log.warning("%s", message)
