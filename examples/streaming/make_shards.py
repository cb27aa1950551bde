"""Write the embedded digits as shards, files that are read from one end to the other.

    python -m examples.streaming.make_shards data/digits_shards

`index.json` has the shards of each split, in order, with their samples and checksums. A shard is raw bytes, a record
for each sample: the label, and 64 pixels from 0 to 16.
"""

import json
import os
import shutil
import sys
import zlib
from pathlib import Path
from uuid import uuid4

import torch

from base.base_dataset import SPLITS
from data_loader.datasets import Digits
from examples.commands import parser
from utils.errors import UserError
from utils.exit_codes import exit_code_of

INDEX = "index.json"
SAMPLES_PER_SHARD = 100
RECORD_BYTES = 65


def make_shards(folder: Path, samples_per_shard: int = SAMPLES_PER_SHARD) -> None:
    """Make the folder with all that belongs there. Several processes may do so at once: the first one's stays."""
    temporary = folder.with_name(f".{folder.name}.{uuid4().hex}.tmp")
    temporary.mkdir(parents=True)
    try:
        _write_splits(temporary, samples_per_shard)
        os.rename(temporary, folder)
    except OSError:
        if not (folder / INDEX).is_file():  # else another process has been faster
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_splits(folder: Path, samples_per_shard: int) -> None:
    index = {}
    for split in SPLITS:
        digits = Digits(split)
        records = torch.cat([digits.targets[:, None].to(torch.uint8), digits.images.flatten(1)], dim=1)
        shards = []
        for number, part in enumerate(records.split(samples_per_shard)):
            name, content = f"{split}-{number:04d}.bin", part.numpy().tobytes()
            (folder / name).write_bytes(content)
            shards.append({"file": name, "samples": len(part), "crc32": zlib.crc32(content)})
        index[split] = shards
    (folder / INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")


def main(argv: list[str] | None = None) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("folder", metavar="FOLDER", type=Path, help="where; it must not be there yet")
    folder = arguments.parse_args(argv).folder
    if folder.exists():
        raise UserError(f"{folder}: is there already. Nothing was changed.")
    make_shards(folder)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
