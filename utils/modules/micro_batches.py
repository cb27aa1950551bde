"""A batch in parts, one after the other, for what does not fit into memory at once."""

import gc
import logging
import math
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from types import TracebackType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from utils.batch import batch_size, split
from utils.distributed import exact_gradients, processes
from utils.distributed.memory import is_out_of_memory
from utils.modules.step_option import StepOption
from utils.seed import rng_state, set_rng_state

log = logging.getLogger(__name__)
MicroBatchSize = int | Literal["auto"] | None


class MicroBatches(StepOption):
    """Calling it with a batch gives its parts of at most `size` samples. The sum of their mean losses, each `weighted`,
    is the mean loss of the batch, and so are the gradients. Several processes exchange gradients once, after the last
    part; where they have unequal shares of a batch, those weigh, too.

    `size`: None for the whole batch; "auto" begins with that, and halves it where memory does not suffice.
    `exchanging`: makes the context of a backward pass that exchanges gradients, or does not. `items_of`: how many items
    the loss of some targets is a mean over, where the parts of a batch are (inputs, targets); None for its samples.
    """

    option = "micro_batch_size"
    splits_batches = True
    remedy = "Compute a batch by its parts: for inputs, targets in self.micro_batches(batch)"

    counts: list[int]  # of samples in the parts of the last batch

    def __init__(
        self,
        size: MicroBatchSize,
        model: nn.Module,
        exchanging: Callable[[bool], AbstractContextManager[None]],
        items_of: Callable[[Any], float | Tensor | None],
    ):
        if size is not None and size != "auto" and size < 1:
            raise ValueError(f"micro_batch_size is {size}, not a number of samples")
        if size == "auto" and processes.steps_are_joint():
            raise ValueError('micro_batch_size: "auto" does not go with parallel fsdp. Write a number, or use ddp')
        self.is_on, self.is_auto = size is not None, size == "auto"
        self.size = None if size == "auto" else size
        self._model = model
        self._exchanging, self._items_of = exchanging, items_of
        self.is_complete = False
        self._weight: float | Tensor = 1.0

    def weighted(self, loss: Tensor) -> Tensor:
        """The loss of the part that was given last, as it counts in that of the batch."""
        if isinstance(self._weight, Tensor):  # a part without any label has no mean
            return torch.where(self._weight > 0, loss * self._weight, 0.0)
        return loss if self._weight == 1.0 else loss * self._weight

    def __call__(self, batch: Any, samples: int = 0) -> Iterator[Any]:
        """The parts of a batch. `samples`: how many are in it; 0 for what its shape tells."""
        self.is_used = True
        self.is_complete = False
        samples = samples or batch_size(batch)
        if not self.is_on and processes.world_size() == 1:
            self.counts, self._weight = [samples], 1.0
            yield batch
            return
        parts = split(batch, samples, self._count(samples) if self.is_on else 1)
        self.counts = [count for _, count in parts]
        weights = self._weights([part for part, _ in parts])
        for number, ((part, _), self._weight) in enumerate(zip(parts, weights, strict=True), start=1):
            is_last = number == len(parts) and not self.is_auto
            with self._exchanging(is_last) if self.is_on else nullcontext():
                yield part
        if not self.is_on:
            return
        if self.is_auto and processes.sums([0])[0]:
            raise _OtherRankIsShort
        self.is_complete = True  # from here on, all processes have what they need
        if self.is_auto:
            exact_gradients.average(
                parameter.grad for parameter in self._model.parameters() if parameter.grad is not None
            )

    def _weights(self, parts: list[Any]) -> list[float | Tensor]:
        """What the mean loss of each part weighs in that of this process's part of the batch."""
        own = [self._items_of(part[1]) if isinstance(part, (tuple, list)) else None for part in parts]
        if None in own:
            return [count / sum(self.counts) for count in self.counts]
        items = [torch.as_tensor(number, dtype=torch.float64) for number in own]
        total = torch.stack(items).sum()
        share = exact_gradients.share_of(total) / exact_gradients.weight() if processes.world_size() > 1 else 1.0
        return [(share * number / total.clamp(min=torch.finfo(total.dtype).tiny)).float() for number in items]

    def _count(self, whole: int) -> int:
        """Parts of a batch of so many samples: as many on all processes, where a forward pass takes all of them."""
        count = math.ceil(whole / (self.size or whole))
        if not processes.steps_are_joint():
            return count
        counts, sizes = zip(*processes.gather((count, whole)), strict=True)
        return min(max(counts), *sizes)

    def halve(self, whole: int) -> bool:
        """Make the parts of a batch half as large; False if they are single samples already."""
        before = min(self.size or whole, whole)
        self.size = max(1, before // 2)
        return before > 1

    def state_dict(self) -> dict[str, Any]:
        return {"size": self.size} if self.is_auto else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.is_auto:  # what was learnt since, as in a step on trial, stays
            self.size = state.get("size") or self.size


class _OtherRankIsShort(Exception):
    """Another process has run out of memory, and all make smaller parts."""


def fitting_memory(step: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A `train_step` that begins anew with smaller parts where `self.micro_batches` is "auto" and memory does not
    suffice: on the same batch, with the same random numbers, on all processes together."""

    @wraps(step)
    def fitted(self: Any, batch: Any) -> Any:
        while self.micro_batches.is_auto:
            with _Attempt(self.micro_batches, self.model, self.samples or batch_size(batch)) as attempt:
                return step(self, batch)
            assert attempt.has_failed
        return step(self, batch)

    return fitted


class _Attempt:
    """`with` it around a step: what the step has changed is put back where memory did not suffice for its gradients."""

    def __init__(self, micro_batches: MicroBatches, model: nn.Module, whole: int):
        self._micro_batches, self._model, self._whole = micro_batches, model, whole
        self.has_failed = False

    def __enter__(self) -> "_Attempt":
        self._generators = rng_state()
        self._buffers = [(buffer, buffer.clone()) for buffer in self._model.buffers()]
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        is_own = error is not None and is_out_of_memory(error) and not self._micro_batches.is_complete
        if not is_own and not isinstance(error, _OtherRankIsShort):
            return False
        if is_own:
            processes.sums([1])
        if not self._micro_batches.halve(self._whole) and is_own:
            return False
        traceback.clear_frames(trace)
        self._put_back()
        log.warning("Out of memory: going on with micro-batches of %d samples.", self._micro_batches.size)
        self.has_failed = True
        return True

    @torch.no_grad()
    def _put_back(self) -> None:
        for buffer, before in self._buffers:
            buffer.copy_(before)
        set_rng_state(self._generators)
        self._model.zero_grad()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
