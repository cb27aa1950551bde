"""What keeps the processes of a run at the same batch: each has its part of it, and they agree when to stop."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from itertools import islice
from typing import Any

from utils.distributed import processes
from utils.distributed.signals import STOPPING, StopSignals, raise_if_asked
from utils.errors import BatchError, RunError, Stopped

Sizes = deque[tuple[int, int]]  # of the batches on their way: samples here, and on all processes
_NONE = object()
VOTE_SECONDS = 1.0  # asking the others costs a millisecond: a tenth of a small model's step


def own_parts(index_batches: Iterable[list[int]], rank: int, ranks: int) -> Iterator[tuple[list[int], int]]:
    """Of each batch of indices the part of one of `ranks` processes, and the size of the whole. A part is every so
    many-th index, so that together they have all of it once. Batches of fewer indices than there are processes go
    together; the last one, with the one before."""
    held: list[int] = []  # what may still grow by a small batch behind it
    small: list[int] = []
    for indices in index_batches:
        small = small + list(indices)
        if len(small) >= ranks:
            if held:
                yield held[rank::ranks], len(held)
            held, small = small, []
    held = held + small
    if own := held[rank::ranks]:
        yield own, len(held)


def own_samples(dataset: Any, rank: int, ranks: int) -> Iterator[Any]:
    """One of so many shares of a stream: what the data set's own `shard` returns, or every so many-th sample."""
    if ranks == 1:
        return iter(dataset)
    if hasattr(dataset, "shard"):
        return iter(copy(dataset).shard(num_shards=ranks, index=rank))  # a copy: `shard` may change the data set
    return islice(dataset, rank, None, ranks)


def in_lockstep(
    batches: Iterator[Any], sizes: Sizes | None, samples: Callable[[], int], is_training: bool
) -> Iterator[tuple[Any, float]]:
    """Batches, each with what its mean weighs in the average over the processes: 1 unless they have unequal parts.

    `sizes`: where every process has as many batches; None where one of them may have fewer, as of a stream. Such a pass
    of training ends with the first process that has no batch left, since a step takes all of them; another pass with
    the last one. `samples`: how many are in the batch returned last.

    Raises:
        BatchError: on all, where one of them has no batch for a reason.
        Stopped: on all, where a signal has come to one of them.
    """
    if processes.world_size() == 1:
        for batch in batches:
            yield batch, 1.0
            raise_if_asked()
    elif sizes is None:
        yield from _with_a_vote_each(batches, samples, is_training)
    else:
        yield from _with_a_vote_now_and_then(batches, sizes)


def _with_a_vote_each(
    batches: Iterator[Any], samples: Callable[[], int], is_training: bool
) -> Iterator[tuple[Any, float]]:
    ranks = processes.world_size()
    while True:
        batch, failure = _NONE, None
        try:
            batch = next(batches, _NONE)
        except BatchError as error:
            failure = error
        count = 0 if batch is _NONE else samples()
        whole, having, failed = _vote([count, batch is not _NONE, failure is not None])
        if failed:
            told = processes.gather(failure and str(failure))
            raise BatchError("\n".join(f"rank {rank}: {text}" for rank, text in enumerate(told) if text))
        if 0 < having < ranks and processes.steps_are_joint() and not is_training:
            raise BatchError(
                f"{ranks - having} of {ranks} processes have no batch left to evaluate, and parallel fsdp needs all of "
                "them for each. Give the set equal parts, or use ddp."
            )
        if having == 0 or (is_training and having < ranks):
            return
        if batch is not _NONE:
            yield batch, ranks * count / max(whole, 1)


def _with_a_vote_now_and_then(batches: Iterator[Any], sizes: Sizes) -> Iterator[tuple[Any, float]]:
    until_vote, steps, asked_at = 0, 0, time.monotonic()
    try:
        for batch in batches:
            own, whole = sizes.popleft()
            if until_vote == 0:
                seconds, now = time.monotonic() - asked_at, time.monotonic()
                wanted = max(1, min(1000, int(VOTE_SECONDS * steps / max(seconds, 1e-6)))) if steps else 1
                (until_vote,) = _vote([wanted if processes.is_first() else 0])
                steps, asked_at = 0, now
            until_vote -= 1
            steps += 1
            yield batch, processes.world_size() * own / whole
    except BatchError as error:  # the others have theirs, and wait for this one in the step
        raise RunError(str(error)) from error


def _vote(numbers: list[int]) -> list[int]:
    """The sums of the numbers over the processes.

    Raises:
        Stopped: a signal has come to one of them.
    """
    found = processes.sums([*numbers, *(StopSignals.asked == one for one in STOPPING)])
    asked = [number for number, is_asked in zip(STOPPING, found[len(numbers) :], strict=True) if is_asked]
    if asked:
        raise Stopped(asked[-1])  # SLURM's SIGUSR1, where SIGTERM has followed it on another machine
    return found[: len(numbers)]
