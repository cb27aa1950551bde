"""Reads a pass of the shards on each of several processes, with so many workers each; what all of them read, as JSON on
the last line.

torchrun --nproc_per_node=2 tests/streams_on_ranks.py FOLDER
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from examples.streaming.data import DigitStream
from utils.batches.loaders import make_batches
from utils.config.options import LoaderOptions
from utils.distributed.processes import connected, gather, is_first

WORKERS = (1, 2, 3)


def one_pass(folder, workers, split="train"):
    """Each sample as text, its label and its pixels, in the order in which they come."""
    options = LoaderOptions(batch_size=64, num_workers=workers)
    batches = make_batches(DigitStream(split, folder), split, 0, options, torch.device("cpu"))
    return [
        f"{target} {image.flatten().tolist()}"
        for images, targets in batches.epoch()
        for image, target in zip(images, targets, strict=True)
    ]


def main(folder):
    with connected():
        read = {workers: gather(one_pass(folder, workers)) for workers in WORKERS}
    if is_first():
        print(json.dumps(read))


if __name__ == "__main__":
    main(sys.argv[1])
