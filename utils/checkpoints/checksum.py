"""A file's own check, at its end: a CRC-32 of every byte before it, standing where a zip archive has its comment.

The CRCs that a zip keeps for its members leave headers and padding unchecked, and torch looks at none of them.
"""

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

_NO_COMMENT = b"\x00\x00"  # how a zip without a comment ends: the comment's length
_MARK = b"\x0e\x00crc32 "  # length and beginning of ours; the number follows, in eight characters
_SIZE = len(_MARK) + 8
_CHUNK = 1 << 18


class _Checksum:
    """Passes bytes on to a file, and keeps their CRC-32 and the error that stopped them."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.crc = 0
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        self.crc = zlib.crc32(data, self.crc)
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def write_sealed(file: BinaryIO, save: Callable[[Any], object]) -> None:
    """Let `save` write a zip archive to the file, and seal it.

    Raises:
        OSError: the file could not be written; torch alone would say so in a RuntimeError of its own words.
    """
    checksum = _Checksum(file)
    try:
        save(checksum)
    except RuntimeError as error:
        raise (checksum.error or error) from error
    file.seek(-len(_NO_COMMENT), os.SEEK_END)
    file.write(_MARK + b"%08x" % checksum.crc)


def checksum_of(path: Path) -> str | None:
    """The checksum that a sealed file says it has, which is not verified here; None for a file without a seal."""
    try:
        with open(path, "rb") as file:
            file.seek(-_SIZE, os.SEEK_END)
            seal = file.read()
    except OSError:
        return None
    return seal[len(_MARK) :].decode("ascii", "replace") if seal.startswith(_MARK) else None


def is_intact(path: Path) -> bool | None:
    """Whether every bit of a sealed file is as it was written; None for a file without a seal."""
    with open(path, "rb") as file:
        left = file.seek(0, os.SEEK_END) - _SIZE
        file.seek(max(left, 0))
        seal = file.read()
        if left < 0 or not seal.startswith(_MARK):
            return None
        file.seek(0)
        crc, buffer = 0, memoryview(bytearray(_CHUNK))
        while left > 0 and (count := file.readinto(buffer[: min(left, _CHUNK)])):
            crc, left = zlib.crc32(buffer[:count], crc), left - count
    return seal == _MARK + b"%08x" % zlib.crc32(_NO_COMMENT, crc)
