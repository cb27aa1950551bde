"""Texts of unequal lengths: what a sample is, how samples become a batch, and which go together."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Sampler

from base.base_dataset import BaseDataset
from examples.text_classification.corpus import read_corpus
from examples.text_classification.tokenizer import PADDING, Tokenizer


class Padded(NamedTuple):
    """Texts as one tensor. `pieces`: (B, T) int64, padding behind shorter ones. `mask`: (B, T), true where text is."""

    pieces: Tensor
    mask: Tensor


class StandardLibrary(BaseDataset):
    """Functions of Python's standard library, and which family of modules they are from.

    A sample is `(pieces, family)`: int64 (T,), the numbers of word pieces, and an int64 scalar.
    `vocabulary_size`: numbers of pieces, with that of the padding. `most_pieces`: longer texts are cut.
    """

    def __init__(self, split: str, vocabulary_size: int = 3000, most_pieces: int = 256):
        super().__init__(split)
        corpus = read_corpus()
        self.texts = [sample.text for sample in corpus[split]]
        self.targets = torch.tensor([sample.family for sample in corpus[split]])
        self.groups = [sample.file for sample in corpus[split]]  # which stay together in a cross-validation
        self.most_pieces = most_pieces
        self.use(Tokenizer.fitted((sample.text for sample in corpus["train"]), vocabulary_size))

    def use(self, tokenizer: Tokenizer) -> None:
        """Take the pieces of this tokenizer in the place of its own: those that trained weights were trained with."""
        self.tokenizer = tokenizer
        self.pieces = [torch.tensor(tokenizer.encode(text)[: self.most_pieces]) for text in self.texts]
        self.lengths = [len(pieces) for pieces in self.pieces]

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.pieces[index], self.targets[index]

    def collate(self, samples: list[tuple[Tensor, Tensor]]) -> tuple[Padded, Tensor]:
        """Pad to the longest of the batch."""
        pieces, targets = zip(*samples, strict=True)
        padded = pad_sequence(list(pieces), batch_first=True, padding_value=PADDING)
        return Padded(padded, padded != PADDING), torch.stack(targets)

    def decode(self, inputs: Padded) -> list[str]:
        """The pieces of each text, for `python -m data_loader`."""
        return [self.tokenizer.decode(pieces) for pieces in inputs.pieces.tolist()]


class LengthBuckets(Sampler[list[int]]):
    """Batches of texts of like length, each text once a pass, for `data_loader.batch_sampler`.

    A pass in random order is cut into pools; each is sorted by length and cut into batches; those come in random order.
    `pool_batches`: batches in a pool. 1 is plain shuffling; with more there is less padding, and less chance.
    """

    def __init__(self, dataset: StandardLibrary, batch_size: int, generator: torch.Generator, pool_batches: int = 20):
        if pool_batches < 1:
            raise ValueError(f"pool_batches is {pool_batches}, not a number of batches")
        self._dataset = dataset
        self._batch_size = batch_size
        self._generator = generator
        self._pool_size = pool_batches * batch_size

    def __len__(self) -> int:
        return -(-len(self._dataset) // self._batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.randperm(len(self._dataset), generator=self._generator).tolist()
        batches = []
        for pool in _cut(order, self._pool_size):
            batches += _cut(sorted(pool, key=self._dataset.lengths.__getitem__), self._batch_size)
        for number in torch.randperm(len(batches), generator=self._generator).tolist():
            yield batches[number]


def _cut(indices: list[int], size: int) -> list[list[int]]:
    return [indices[start : start + size] for start in range(0, len(indices), size)]
