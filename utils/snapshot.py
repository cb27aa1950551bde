"""What objects hold, to be put back after code has run on trial: a rehearsal leaves no trace."""

import random
import sys
import types
from collections import OrderedDict, deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy

from utils.frames import is_project_module

MOST_ITEMS = 10_000  # of a list or dict that are looked into; a larger one is kept as a whole
_ATOMS = (type(None), bool, int, float, complex, str, bytes, range, type, types.ModuleType, types.FunctionType)
# What belongs to the process or the system: putting it back would break it.
_FOREIGN = {"threading", "_thread", "logging", "multiprocessing", "concurrent", "tqdm", "_io", "io", "socket"}
_FOREIGN |= {"weakref", "tensorboard", "builtins"}
_FOREIGN_IN_TORCH = ("torch.distributed", "torch.utils.data", "torch.utils.tensorboard", "torch._")


class Snapshot:
    """Remembers what is reachable from `roots`: attributes of objects and of the project's classes, lists, dicts, sets,
    tensors, arrays, random generators. Files, iterators and closures are not put back.

    `opaque`: classes whose objects are not looked into. `most_bytes`: larger tensors and arrays are not copied.
    """

    def __init__(self, *roots: Any, opaque: tuple[type, ...] = (), most_bytes: float = float("inf")):
        self._opaque, self._most_bytes = opaque, most_bytes
        self._seen: dict[int, Any] = {}  # by id, and so kept alive
        self._dicts: list[tuple[Any, dict[Any, Any]]] = []
        self._containers: list[tuple[Any, list[Any]]] = []
        self._tensors: list[tuple[Tensor, Tensor, bool]] = []
        self._arrays: list[tuple[Any, Any]] = []
        self._generators: list[tuple[Any, Any]] = []
        self._slots: list[tuple[Any, str, Any]] = []
        stack = list(roots)
        while stack:
            item = stack.pop()
            if not isinstance(item, _ATOMS) and id(item) not in self._seen and not isinstance(item, self._opaque):
                self._seen[id(item)] = item
                stack.extend(self._remember(item))

    @property
    def tensors(self) -> list[Tensor]:
        """The copies that it keeps."""
        return [before for tensor, before, *_ in self._tensors if before is not tensor]

    def put_back(self) -> None:
        """Make all as it was, and without gradients; may be called repeatedly."""
        for held, content in self._dicts:
            _fill_dict(held, content)
        for container, items in self._containers:
            _fill(container, items)
        for owner, name, value in self._slots:
            if getattr(owner, name, None) is not value:
                (setattr if isinstance(owner, type) else object.__setattr__)(owner, name, value)
        with torch.no_grad():
            for tensor, before, requires_grad in self._tensors:
                if (tensor.shape, tensor.dtype) != (before.shape, before.dtype):
                    tensor.data = before.clone()
                elif before is not tensor:
                    tensor.detach().copy_(before)
                if tensor.is_leaf:
                    tensor.requires_grad_(requires_grad).grad = None
        for array, before in self._arrays:
            array[...] = before
        for generator, state in self._generators:
            _set_state(generator, state)

    def _remember(self, item: Any) -> Collection[Any]:
        """Keep what an object holds; return what is to be looked into."""
        if isinstance(item, Tensor):
            return self._remember_tensor(item)
        if isinstance(item, dict):
            self._dicts.append((item, dict(item)))
            return _few(item.values())
        if isinstance(item, (list, deque, set, bytearray)):
            self._containers.append((item, list(item)))
            return _few(item)
        if isinstance(item, (tuple, types.MethodType)):
            return _few(item) if isinstance(item, tuple) else [item.__self__]
        if (state := _state_of(item)) is not None:
            self._generators.append((item, state))
            return []
        if isinstance(item, DistributedDataParallel):
            return [item.module]
        if type(item).__module__ == "numpy":
            if hasattr(item, "nbytes") and item.nbytes <= self._most_bytes and getattr(item, "flags", None) is not None:
                self._arrays += [(item, item.copy())] if item.flags.writeable else []
            return []
        module = type(item).__module__
        if module.split(".")[0] in _FOREIGN or module.startswith(_FOREIGN_IN_TORCH):
            return []
        return list(self._remember_object(item))

    def _remember_tensor(self, tensor: Tensor) -> list[Tensor]:
        if is_lazy(tensor) or tensor.is_sparse:
            return []
        is_small = tensor.numel() * tensor.element_size() <= self._most_bytes
        before = tensor.detach().clone() if is_small else tensor
        self._tensors.append((tensor, before, tensor.requires_grad))
        return []

    def _remember_object(self, item: Any) -> Iterator[Any]:
        attributes = getattr(item, "__dict__", None)
        if type(attributes) is dict:
            yield attributes
        for owner in type(item).__mro__:
            slots = owner.__dict__.get("__slots__", ())
            for name in [slots] if isinstance(slots, str) else slots:
                if name not in ("__dict__", "__weakref__") and hasattr(item, name):
                    self._slots.append((item, name, getattr(item, name)))
                    yield getattr(item, name)
            if id(owner) not in self._seen and is_project_module(owner.__module__):
                self._seen[id(owner)] = owner
                for name, value in vars(owner).items():
                    if not name.startswith("__") and not callable(value) and not hasattr(value, "__get__"):
                        self._slots.append((owner, name, value))
                        yield value


@contextmanager
def untouched(*roots: Any, most_bytes: float = float("inf")) -> Iterator[None]:
    """What the block changes in the objects is put back behind it."""
    snapshot = Snapshot(*roots, most_bytes=most_bytes)
    try:
        yield
    finally:
        snapshot.put_back()


def _few(items: Any) -> Collection[Any]:
    return items if len(items) <= MOST_ITEMS else ()


def _fill_dict(held: dict[Any, Any], content: dict[Any, Any]) -> None:
    if len(held) == len(content) and all(held.get(name, held) is value for name, value in content.items()):
        return
    own = OrderedDict if isinstance(held, OrderedDict) else dict  # a Counter's own update would add
    own.clear(held)
    for name, value in content.items():
        own.__setitem__(held, name, value)


def _fill(container: Any, items: list[Any]) -> None:
    if len(container) == len(items) and all(now is before for now, before in zip(container, items, strict=True)):
        return
    container.clear()
    (container.update if isinstance(container, set) else container.extend)(items)


def _state_of(item: Any) -> Any:
    """The state of a random generator of torch's, Python's or NumPy's; None for anything else."""
    if isinstance(item, torch.Generator):
        return item.get_state()
    if isinstance(item, random.Random):
        return item.getstate()
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(item, numpy.random.Generator):
        return item.bit_generator.state
    return item.get_state() if numpy is not None and isinstance(item, numpy.random.RandomState) else None


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, random.Random):
        generator.setstate(state)
    elif hasattr(generator, "bit_generator"):
        generator.bit_generator.state = state
    else:
        generator.set_state(state)
