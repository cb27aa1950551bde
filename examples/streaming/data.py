"""A data set that is read as a stream: every reader has its share of the shards, and nobody knows a position."""

from collections.abc import Iterable, Iterator
from copy import copy
from random import Random
from typing import Any

from torch import Tensor
from torch.utils.data import IterableDataset, default_collate, get_worker_info

from data_loader.transforms import NormalizeUint8
from examples.streaming.make_shards import make_shards
from examples.streaming.shards import Shard, read_index
from utils.paths import project_path

Record = tuple[Tensor, Tensor]


class DigitStream(IterableDataset[Record]):
    """The embedded digits from shards, which are made where there are none. A sample is `(image, target)`: uint8
    (1, 8, 8) and an int64 scalar; a batch has float32 images, normalised.

    Order of calls: `set_epoch`, on each process `shard`, on each of its workers an iteration. What a reader gives is a
    function of (seed, epoch, share), and a pass over all shares gives each sample once. Training alone is shuffled:
    shards, and samples within a buffer.

    `buffer_size`: samples that a reader keeps to draw from; 1 for none, the order of the files.
    """

    def __init__(self, split: str, data_dir: str = "data/digits_shards", buffer_size: int = 256, seed: int = 0):
        if buffer_size < 1:
            raise ValueError(f"buffer_size is {buffer_size}, not a number of samples")
        folder = project_path(data_dir)
        if not folder.exists():
            make_shards(folder)
        self._shards = read_index(folder, split)
        self._is_training = split == "train"
        self._buffer_size = buffer_size
        self._seed = seed
        self._epoch = 0
        self._index, self._num_shards = 0, 1
        self._normalize = NormalizeUint8(mean=[0.305], std=[0.376], full_scale=16.0)

    def __len__(self) -> int:
        """Samples of all shares."""
        return sum(shard.samples for shard in self._shards)

    def set_epoch(self, number: int) -> None:
        self._epoch = number

    def shard(self, num_shards: int, index: int) -> "DigitStream":
        """The share of one of so many processes."""
        share = copy(self)
        share._index, share._num_shards = index, num_shards
        return share

    def __iter__(self) -> Iterator[Record]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        share, shares = self._index * workers + number, self._num_shards * workers
        samples = self._read(share, shares)
        return shuffled(samples, self._buffer_size, self._random(share, shares)) if self._is_training else samples

    def collate(self, samples: list[Record]) -> Record:
        images, targets = default_collate(samples)
        return self._normalize(images), targets

    def _read(self, share: int, shares: int) -> Iterator[Record]:
        """The samples of all shards in a row, cut into shares of the same length, but for a sample: there may be fewer
        shards than readers."""
        shards = list(self._shards)
        if self._is_training:
            self._random("shards").shuffle(shards)
        first, end = (len(self) * number // shares for number in (share, share + 1))
        for shard in shards:
            if first < shard.samples and end > 0:
                yield from _samples_of(shard, max(first, 0), end)
            first, end = first - shard.samples, end - shard.samples

    def _random(self, *parts: Any) -> Random:
        return Random("/".join(map(str, (self._seed, self._epoch, *parts))))  # noqa: S311 - no secret


def _samples_of(shard: Shard, first: int, end: int) -> Iterator[Record]:
    records = shard.read()[first:end]
    return zip(records[:, 1:].view(-1, 1, 8, 8), records[:, 0].long(), strict=True)


def shuffled(samples: Iterable[Record], buffer_size: int, random: Random) -> Iterator[Record]:
    """The same samples, each drawn from as many as the buffer holds."""
    buffer: list[Record] = []
    for sample in samples:
        if len(buffer) < buffer_size:
            buffer.append(sample)
            continue
        place = random.randrange(buffer_size)
        yield buffer[place]
        buffer[place] = sample
    random.shuffle(buffer)
    yield from buffer
