"""Shards on the disk: what there are, and what is in one. What is wrong with a file is told by its name."""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from examples.streaming.make_shards import INDEX, RECORD_BYTES
from utils.errors import ConfigError

WHERE = "dataset.args.data_dir"


@dataclass(frozen=True)
class Shard:
    """A file of records, a byte for the label and one for each pixel."""

    path: Path
    samples: int
    crc32: int

    def read(self) -> Tensor:
        """All its records, uint8 (samples, 65).

        Raises:
            ValueError: the file is not as it was written.
        """
        content = self.path.read_bytes()
        if zlib.crc32(content) != self.crc32:
            raise ValueError(f"{self.path} is damaged: its checksum does not match. {_remedy(self.path.parent)}")
        return torch.frombuffer(bytearray(content), dtype=torch.uint8).view(self.samples, RECORD_BYTES)


def read_index(folder: Path, split: str) -> list[Shard]:
    """The shards of a split.

    Raises:
        ConfigError: the index or a shard is missing, or of another size; names all such files.
    """
    path = folder / INDEX
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))[split]
        shards = [Shard(folder / entry["file"], entry["samples"], entry["crc32"]) for entry in entries]
    except FileNotFoundError:
        raise ConfigError(f"{WHERE}: {path} is missing. {_remedy(folder)}") from None
    except (ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{WHERE}: {path} is no index of shards. {_remedy(folder)}") from error
    found = [f"{shard.path} {mistake}" for shard in shards if (mistake := _mistake_in(shard))]
    if found:
        raise ConfigError(*(f"{WHERE}: {mistake}. {_remedy(folder)}" for mistake in found))
    return shards


def _mistake_in(shard: Shard) -> str:
    """What can be told of a file without reading it."""
    if not shard.path.is_file():
        return "is missing"
    size, expected = shard.path.stat().st_size, shard.samples * RECORD_BYTES
    return f"has {size:,} bytes, not {expected:,}" if size != expected else ""


def _remedy(folder: Path) -> str:
    return f"Delete {folder}: the next start writes it again."
