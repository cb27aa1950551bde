"""States as plain tensors and plain values: all that a checkpoint may hold, in a form that can be read again.

NumPy's numbers become Python's. Its arrays, and numbers of a precision that Python does not have, become tensors under
a mark, by which `restored` returns them as they were; sparse tensors become their indices and values.
"""

import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable
from copy import copy
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from utils.distributed.shards import is_shard
from utils.errors import UserError

MOST_DEPTH = 100  # of the nesting of a state
_ARRAY = "__ndarray__"
_SPARSE = "__sparse__"
_ATOMS = {type(None), bool, int, float, complex, str, bytes, bytearray}
_ATOMS |= {torch.device, torch.dtype, torch.Size, torch.layout}
_TENSORS = {Tensor, nn.Parameter}
_BASES = (bool, int, float, complex, str, bytes)


class NotPlain(UserError):
    """A state holds something that could be written, but not read again."""


def plain(state: Any, key: str = "") -> Any:
    """Return a copy of a state in plain tensors (not copied) and plain values. `key`: what the state is of.

    Raises:
        NotPlain: that cannot be done; names the place in the state.
    """
    return _plain(state, key, ())


def _plain(value: Any, key: str, around: tuple[int, ...]) -> Any:
    kind = type(value)
    if kind in _ATOMS:
        return value
    if isinstance(value, Tensor):
        if value.layout is torch.sparse_coo:
            value = value.detach().coalesce()
            return {_SPARSE: (value.indices(), value.values(), tuple(value.shape))}
        return _plain_tensor(value, key)
    if id(value) in around:
        raise _not_plain(key, "itself")
    if len(around) > MOST_DEPTH:
        raise _not_plain(key[:80], "a nesting that is too deep")
    if isinstance(value, Enum):
        raise _not_plain(key, f"a {kind.__name__}")
    if "numpy" in sys.modules and isinstance(value, (sys.modules["numpy"].generic, sys.modules["numpy"].ndarray)):
        return _plain_array(value, key)
    around = (*around, id(value))
    if kind in (dict, OrderedDict, Counter, defaultdict):
        plain_dict = dict(value) if kind is defaultdict else copy(value)  # a module's has versions in an attribute
        plain_dict.clear()
        for name, item in value.items():
            plain_dict[_plain_name(name, key)] = _plain(item, f"{key}.{name}".lstrip("."), around)
        return plain_dict
    if isinstance(value, (list, tuple, set, frozenset, deque, range)):
        items = (_plain(item, f"{key}.{i}", around) for i, item in enumerate(value))
        return _of_kind(kind, items)
    for base in _BASES:  # such as torch.__version__, which is a kind of text
        if isinstance(value, base):
            return "".join(value) if base is str else base(value)  # type: ignore[arg-type]
    raise _not_plain(key, f"a {kind.__module__}.{kind.__qualname__}")


def _of_kind(kind: type, items: Iterable[Any]) -> Any:
    if issubclass(kind, tuple):
        return tuple(items)
    return set(items) if issubclass(kind, (set, frozenset)) else list(items)


def _plain_name(name: Any, key: str) -> Any:
    if type(name) in _ATOMS:
        return name
    name = _plain(name, f"{key}: the key {name!r}", ())
    if isinstance(name, (dict, list, set)):
        raise _not_plain(key, f"the key {name!r}")
    return name


def _plain_tensor(value: Tensor, key: str) -> Tensor:
    if is_lazy(value):
        raise _not_plain(key, "a parameter of a lazy module that has not seen an input")
    if is_shard(value):
        return value
    if type(value) not in _TENSORS:
        return value.detach().as_subclass(Tensor)
    return value.detach() if type(value) is Tensor and vars(value) else value  # attributes could be anything


def _plain_array(value: Any, key: str) -> Any:
    numpy = sys.modules["numpy"]
    if isinstance(value, (numpy.float64, numpy.complex128, numpy.integer, numpy.bool_, numpy.str_, numpy.bytes_)):
        return value.item()
    try:
        native = numpy.array(value, dtype=value.dtype.newbyteorder("="), order="C")
        return {_ARRAY: torch.from_numpy(native).view(native.shape)}
    except TypeError:
        raise _not_plain(key, f"a NumPy array of {value.dtype}") from None


def is_plain(value: Any) -> bool:
    """Whether `plain` can make it so."""
    try:
        plain(value)
    except NotPlain:
        return False
    return True


def named_numbers(value: Any) -> dict[str, Any]:
    """The values of an epoch as a checkpoint has them: numbers by name, and matrices.

    Raises:
        TypeError: it is something else.
    """
    is_right = isinstance(value, dict) and all(
        isinstance(name, str) and (isinstance(item, (int, float)) or (isinstance(item, Tensor) and item.dim() == 2))
        for name, item in value.items()
    )
    if not is_right:
        raise TypeError("it has something other than numbers by name")
    return value


def restored(state: Any, with_arrays: bool = True) -> Any:
    """The state that was made plain, with its NumPy arrays as they were; the same object where it had none.

    `with_arrays`: False for tensors instead of arrays.
    """
    if type(state) in (dict, OrderedDict):
        if len(state) == 1 and isinstance(state.get(_ARRAY), Tensor):
            if not with_arrays:
                return state[_ARRAY]
            array = state[_ARRAY].numpy().copy()
            return array if array.ndim else array[()]
        if len(state) == 1 and isinstance(state.get(_SPARSE), tuple):
            return torch.sparse_coo_tensor(*state[_SPARSE], is_coalesced=True, check_invariants=True)
        changed = {name: new for name, item in state.items() if (new := restored(item, with_arrays)) is not item}
        if changed:
            state = copy(state)
            state.update(changed)
    elif type(state) in (list, tuple):
        items = [restored(item, with_arrays) for item in state]
        if any(new is not item for new, item in zip(items, state, strict=True)):
            return type(state)(items)
    return state


def _not_plain(key: str, found: str) -> NotPlain:
    return NotPlain(
        f"{key or 'checkpoint'}: holds {found}, which could not be read again from a checkpoint. "
        "Return numbers, texts, lists, dicts, tensors or NumPy arrays from state_dict()."
    )
