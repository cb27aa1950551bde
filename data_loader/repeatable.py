"""What makes a batch the same whenever it is made: its indices and its randomness are functions of its position."""

from collections.abc import Callable, Iterator, Sized
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler

from utils.seed import derived_seed, seeded

Position = tuple[str, list[int]]  # the seed of a batch, and the indices of its samples


class Order(Sampler[Position]):
    """The index batches of one pass, each with a seed of its own. `start` before each pass.

    `generator`: the one that torch's samplers draw from, seeded here for each pass.
    `is_custom`: the sampler may draw from the global generators, too, and gets its own ones to do so.
    """

    def __init__(self, index_batches: Sampler[list[int]], generator: torch.Generator, seed: str, is_custom: bool):
        self._index_batches = index_batches
        self._is_custom = is_custom
        self._generator = generator
        self._seed = seed
        self._pass = self._first = 0

    def start(self, number: int, first: int) -> None:
        """Make the next iteration pass `number`, from its batch `first` on."""
        self._pass, self._first = number, first
        for sampler in (self._index_batches, getattr(self._index_batches, "sampler", None)):
            if sampler is not None and hasattr(sampler, "set_epoch"):  # torch's word for "the next pass"
                sampler.set_epoch(number)

    def steps(self) -> int | None:
        """Batches in a pass; None where the sampler does not know."""
        return len(self._index_batches) if isinstance(self._index_batches, Sized) else None

    def __iter__(self) -> Iterator[Position]:
        seed = f"{self._seed}/{self._pass}"
        self._generator.manual_seed(derived_seed(seed))
        index_batches = iter(self._index_batches)
        for number, indices in enumerate(isolated(index_batches, seed) if self._is_custom else index_batches):
            if number >= self._first:
                yield f"{self._seed}/{self._pass}/{number}", list(indices)


class Fetcher(Dataset[Any]):
    """A data set of batches: takes positions for indices. The randomness of a batch does not depend on the worker."""

    def __init__(self, dataset: Dataset[Any], collate: Callable[[list[Any]], Any]):
        self._dataset = dataset
        self._collate = collate

    def __getitem__(self, position: Position) -> Any:
        seed, indices = position
        with seeded(seed):
            if hasattr(self._dataset, "__getitems__"):
                samples = self._dataset.__getitems__(indices)
            else:
                samples = [self._dataset[index] for index in indices]
        # torch's own subsets answer __getitems__ with a list of samples; anything else is a batch already.
        return self._collate(samples) if isinstance(samples, list) else samples


def isolated(iterator: Iterator[Any], seed: str) -> Iterator[Any]:
    """The same items, drawn with generators of their own, so that they do not depend on what else draws numbers."""
    generators = seeded(seed)
    while True:
        with generators:
            try:
                item = next(iterator)
            except StopIteration:
                return
        yield item
