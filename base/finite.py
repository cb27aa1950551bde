"""Losses and gradients that are infinite or not a number: found within some steps, without waiting at each one."""

import logging
import math
from collections.abc import Collection, Iterable
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from utils.distributed import processes
from utils.distributed.shards import own_part
from utils.errors import RunError

log = logging.getLogger(__name__)
CHECK_STEPS = 50  # at the least


class NonFinite(RunError):
    """What a step reported is not finite. `record`: when and what, as JSON has it."""

    def __init__(self, message: str, record: dict[str, Any]):
        super().__init__(message)
        self.record = record


class FiniteWatch:
    """Keeps what steps report on the device, and looks at it now and then: reading it waits for the device.

    Order of calls: `update` each step; `check` before anything is saved, and at least every `CHECK_STEPS`.
    `ignored`: names that may be anything: metrics. `stops`: whether to raise, or to warn once. Beside a loss that is
    finite, other values that a step computes, such as a perplexity, never stop a run.
    """

    def __init__(self, ignored: Collection[str], stops: bool):
        self._ignored = ignored
        self.stops = stops
        self._warned_of: set[str] = set()
        self._infinite_before: Collection[str] = ()
        self._recent: list[tuple[dict[str, Any], list[str], Tensor]] = []

    def update(self, when: dict[str, Any], names: list[str], values: Tensor) -> None:
        """Note a step's values, in the order of their names. `when`: its step, epoch, batch, learning rates."""
        self._recent.append((when, names, values))
        if len(self._recent) >= CHECK_STEPS:
            self.check()

    def check(self, note: Any = None) -> list[Any]:
        """Look at all steps since the last check, of all processes; the notes of all of them.

        Raises:
            NonFinite: of the first value that is not, where `stops` is set; on every process.
        """
        recent, self._recent = self._recent, []
        if not recent:
            return processes.gather(note) if note is not None else [note]
        device = recent[-1][2].device
        values = iter(torch.cat([values.to(device) for _, _, values in recent]).tolist())
        own: dict[bool, list[Any]] = {True: [], False: []}  # by whether the run cannot go on with it
        for when, names, _ in recent:
            is_decided_by_loss = any("loss" in name for name in names)
            for name, value in zip(names, values, strict=False):
                if not math.isfinite(value) and name not in self._ignored:
                    is_vital = not is_decided_by_loss or "loss" in name or name == "grad_norm"
                    own[is_vital].append((when, name, value))
        first = {is_vital: found[:1] for is_vital, found in own.items()}
        all_first, notes = zip(*processes.gather((first, note)), strict=True)
        for is_vital in (False, True):
            if found := list(chain.from_iterable(one[is_vital] for one in all_first)):
                when, name, value = min(found, key=lambda one: one[0]["step"])
                self._found(when, name, value, is_vital)
        return list(notes)

    def are_finite(self, modules: dict[str, nn.Module]) -> bool:
        """Whether all that a save would hold is finite here, where that matters."""
        return not self.stops or not _not_finite(modules, self._infinite_before)

    def check_parameters(self, modules: dict[str, nn.Module], when: dict[str, Any]) -> None:
        """Look at what is about to be saved: a gradient that no step reports may have spoilt it.

        Raises:
            NonFinite: a parameter is not finite, where `stops` is set; on every process.
        """
        if not self.stops:
            return
        own = _not_finite(modules, self._infinite_before)
        if found := list(chain.from_iterable(processes.gather(own[:1]))):
            raise NonFinite(
                f"step {when['step']}: {found[0]} is not finite, though no step reported it.",
                when | {"name": found[0]},
            )

    def note_buffers(self, modules: dict[str, nn.Module]) -> None:
        """Note the buffers that are infinite from the start, as a mask for attention is: they may stay so."""
        buffers = chain.from_iterable(module.named_buffers(prefix=key) for key, module in modules.items())
        self._infinite_before = set(_infinite(buffers))

    def _found(self, when: dict[str, Any], name: str, value: float, is_vital: bool) -> None:
        rates = ", ".join(f"{rate} {number:.4g}" for rate, number in when["learning_rates"].items())
        message = f"step {when['step']} (batch {when['batch']} of epoch {when['epoch']}, {rates}): {name} is {value}."
        if self.stops and is_vital:
            raise NonFinite(message, when | {"name": name, "value": str(value)})
        if name not in self._warned_of:
            log.warning("%s Training continues, and does not report %s again.", message, name)
            self._warned_of.add(name)


def _not_finite(modules: dict[str, nn.Module], ignored: Collection[str]) -> list[str]:
    """The names of parameters and buffers that are not finite, but for those ignored."""
    named = (
        (name, tensor)
        for key, module in modules.items()
        for name, tensor in chain(module.named_parameters(prefix=key), module.named_buffers(prefix=key))
        if name not in ignored
    )
    return _infinite(named)


def _infinite(named: Iterable[tuple[str, Tensor]]) -> list[str]:
    """The names of the tensors that are not finite. Syncs with the device once."""
    tensors = {name: own_part(one) for name, one in named if one.is_floating_point() or one.is_complex()}
    if not tensors:
        return []
    device = next(iter(tensors.values())).device
    flags = torch.stack([torch.isfinite(tensor).all().to(device) for tensor in tensors.values()])
    return [name for name, is_good in zip(tensors, flags.tolist(), strict=True) if not is_good]
