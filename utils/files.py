"""Files that are either the old version or the new one, whatever happens in between."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write to a temporary name, flush to the disk, and put it in the place of `path`.

    `content`: the bytes, or a function that writes them to the open file.
    """
    write_under_names([path], content)


def write_under_names(
    paths: Sequence[Path], content: bytes | Callable[[BinaryIO], object], check: Callable[[Path], object] | None = None
) -> None:
    """Write one file that has several names in a folder: the last name is put in its place when all others are.

    `check`: looks at the new file while every older one is still there, and raises if it is not good.

    The temporary name is always the same, so that what a kill leaves behind is written over by the next start.
    """
    temporary = _temporary(paths[-1])
    try:
        with open(temporary, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if check is not None:
            check(temporary)
        for path in paths[:-1]:
            link_atomically(temporary, path)
        os.replace(temporary, paths[-1])
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_folder(paths[-1].parent)


def link_atomically(source: Path, target: Path) -> None:
    """Give a file a second name without a second write; a copy where the file system knows no hard links."""
    temporary = _temporary(target)
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        write_atomically(target, source.read_bytes())
        return
    os.replace(temporary, target)
    temporary.unlink(missing_ok=True)  # POSIX: replacing a file by itself leaves both names


def temporary_files(folder: Path) -> list[Path]:
    """What a kill in the middle of a write has left in a folder."""
    return sorted(folder.glob(".*.tmp"))


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
