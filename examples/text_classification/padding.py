"""What buckets of like lengths save: the share of padding, and the seconds that an epoch takes.

Its output is the table of the README.

python -m examples.text_classification.padding
"""

import sys
import time
from collections.abc import Iterable
from statistics import median

import torch
from torch.nn import functional as F
from torch.optim import AdamW

from examples.commands import parser
from examples.pages import markdown_table
from examples.text_classification.data import LengthBuckets, StandardLibrary
from examples.text_classification.model import TextClassifier
from utils.exit_codes import exit_code_of

BATCH_SIZE, TURNS = 32, 5
POOLS = {1: "random", 5: "pools of 5 batches", 20: "pools of 20 batches", 1000: "all sorted"}


def padding_share(dataset: StandardLibrary, index_batches: Iterable[list[int]]) -> float:
    """Of the numbers in the tensors of a pass, how many are padding."""
    lengths = [[dataset.lengths[index] for index in indices] for indices in index_batches]
    numbers = sum(max(batch) * len(batch) for batch in lengths)
    return 1 - sum(map(sum, lengths)) / numbers


def epoch_seconds(dataset: StandardLibrary, model: TextClassifier, index_batches: Iterable[list[int]]) -> float:
    """Of the loading of the batches, and a step on each."""
    optimizer = AdamW(model.parameters())
    start = time.perf_counter()
    for indices in index_batches:
        texts, targets = dataset.collate([dataset[index] for index in indices])
        optimizer.zero_grad()
        F.cross_entropy(model(texts), targets).backward()
        optimizer.step()
    return time.perf_counter() - start


def main(argv: list[str] | None = None) -> None:
    parser(__doc__).parse_args(argv)
    dataset, generator = StandardLibrary("train"), torch.Generator().manual_seed(0)
    model = TextClassifier(num_classes=7, vocabulary_size=3000)
    samplers = {pool: LengthBuckets(dataset, BATCH_SIZE, generator, pool) for pool in POOLS}
    shares = {pool: padding_share(dataset, sampler) for pool, sampler in samplers.items()}
    seconds: dict[int, list[float]] = {pool: [] for pool in POOLS}
    for _ in range(TURNS):  # in turns, so that what else the machine does falls on all
        for pool, sampler in samplers.items():
            seconds[pool].append(epoch_seconds(dataset, model, sampler))
    rows = []
    for pool, name in POOLS.items():
        ratio = median(own / random for own, random in zip(seconds[pool], seconds[1], strict=True))
        rows.append([name, f"{shares[pool]:.0%}", f"{median(seconds[pool]):.2f}", f"{ratio:.2f}"])
    print(markdown_table(["batches", "padding", "seconds an epoch", "of random"], rows))


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
