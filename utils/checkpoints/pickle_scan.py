"""Inspect the pickles of a checkpoint file before torch loads them.

`weights_only=True` keeps a file from running code. It does not keep a small file from allocating all memory or from
taking hours: `bytearray(8_000_000_000)`, lists that contain each other, tensors that are larger than their storage.
This scan allows only the opcodes and names that state_dicts and our own checkpoints need, and bounds every size by the
size of the file.
"""

import math
import mmap
import os
import re
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, BinaryIO, NamedTuple

import torch

from utils.checkpoints.pickle_names import ITEM_BYTES, OF_TENSORS, TENSORS, TYPES, may_be_a_value
from utils.checkpoints.pickle_opcodes import TENSOR, argument_of, index_in, numbers_in
from utils.checkpoints.plain import MOST_DEPTH

MOST_GROWTH = 16  # times what was read
_FREE_BYTES = 1 << 26  # that the tensors of any file may have: a small one may view one number as many
_FREE_VALUES = 10_000
_MOST_EQUAL_HASHES = 100
_LEGACY_PICKLES = 5  # magic number, protocol, system, content, keys of the storages
_STOP = ord(".")
_CONSTANTS = {ord("N"): None, 0x88: True, 0x89: False}
_EMPTY = {ord(")"): "tuple", ord("]"): "list", ord("}"): "dict", 0x8F: "set"}
_COUNTS = {0x85: 1, 0x86: 2, 0x87: 3, ord("a"): 1, ord("s"): 2}  # values that are taken; else all after the mark


class HarmfulPickle(Exception):
    """A pickle holds more than tensors and plain values, or would take more memory or time than its file suggests."""


_TOO_LARGE = "it unpacks to more than it is"


def check_pickles(file: BinaryIO) -> None:
    """Raise `HarmfulPickle` for a checkpoint file that torch must not load; other exceptions for a damaged one."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    is_archive = file.read(4) == b"PK\x03\x04"
    file.seek(0)
    if is_archive:
        reader = torch._C.PyTorchFileReader(file)  # torch's own: another parser might see other members
        names = reader.get_all_records()
        size_of = getattr(reader, "get_record_size", lambda name: len(reader.get_record(name)))  # not in every torch
        sizes = {name: size_of(name) for name in names}
        if sum(map(sizes.__getitem__, names)) > size:
            raise HarmfulPickle(_TOO_LARGE)
        _Scan(size, lambda key: sizes.get(f"data/{key}", -1)).run(reader.get_record("data.pkl"))
    else:  # of torch before 1.6: pickles, and then the content of the storages
        scan = _Scan(size, lambda key: size)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            position = 0
            for _ in range(_LEGACY_PICKLES):
                position = scan.run(content, position)
        if scan.bytes_stored > size:
            raise HarmfulPickle(_TOO_LARGE)
    file.seek(0)


class _Name(str):
    """A class or function that a pickle names."""


class _Storage(NamedTuple):
    size: int
    item_size: int


class _Container:
    """A value with parts. `size`: all values in it, each as often as it can be reached."""

    __slots__ = ("depth", "hashes", "is_shared", "items", "kind", "size")

    def __init__(self, kind: str, items: Sequence[Any] = ()):
        self.kind, self.size, self.depth, self.is_shared = kind, 1, 1, False
        self.items: list[Any] = []
        self.hashes: dict[int, int] = defaultdict(int)
        self._take(items)

    def extend(self, items: Sequence[Any], is_list: bool) -> None:
        """Add to a list or dict. One that the memo has returned is complete: else it could contain itself."""
        if self.is_shared or self.kind not in (("list",) if is_list else ("dict", "OrderedDict", "Counter")):
            raise HarmfulPickle(f"it adds to a complete {self.kind}")
        if not is_list:
            self.with_keys(items[::2])
        self._take(items)

    def _take(self, items: Sequence[Any]) -> None:
        self.size += len(items)
        for item in items:
            if type(item) is _Container:
                self.size += item.size
                self.depth = max(self.depth, item.depth + 1)
            elif type(item) is _Name and not may_be_a_value(item):
                raise HarmfulPickle(f"it holds {item.replace(' ', '.')}")
        if self.depth > 2 * MOST_DEPTH:
            raise HarmfulPickle("its nesting is too deep")
        self.items += items

    def with_keys(self, keys: Sequence[Any]) -> "_Container":
        """Refuse many keys of the same hash, as integers and tuples can be made to have: each is compared with all."""
        for key in keys:
            if type(key) in (_Container, int, complex):
                self.hashes[number := hash(_hashable(key))] += 1
                if self.hashes[number] > _MOST_EQUAL_HASHES:
                    raise HarmfulPickle("too many of its keys have the same hash")
        return self


def _hashable(key: Any) -> Any:
    if type(key) is _Container and key.kind not in ("tuple", "torch device"):
        raise HarmfulPickle(f"a {key.kind} is a key")
    return tuple(map(_hashable, key.items)) if type(key) is _Container else key


_PART = _Container("tensor")


class _Scan:
    """Follow the opcodes as torch's unpickler does, without calling anything.

    `most_of(key)`: how many bytes the file can have for this storage.
    """

    def __init__(self, file_size: int, most_of: Callable[[str], int]):
        self._most_of = most_of
        self._bytes_left = max(MOST_GROWTH * file_size, _FREE_BYTES)
        self._shared = 0
        self._storages: dict[str, _Storage] = {}
        self.bytes_stored = 0

    def run(self, content: Any, position: int = 0) -> int:
        """Scan the pickle that begins at a position; return where it ends."""
        stack: list[Any] = []
        marks: list[list[Any]] = []
        memo: dict[int, Any] = {}
        while (code := content[position]) != _STOP:
            argument, position = argument_of(code, content, position + 1)
            if code in b"qr":  # PUT
                memo[argument] = stack[-1]
            elif code in b"hj":  # GET
                stack.append(memo[argument])
                self._share(stack[-1], position)
                if stack[-1] == "torch._utils _rebuild_tensor_v2" and (match := TENSOR.match(content, position)):
                    stack[-1] = self._usual_tensor(match, memo)
                    position = match.end()
            elif code in b"KMJGXU\x8a":  # numbers and texts
                stack.append(argument)
            elif code in _CONSTANTS:
                stack.append(_CONSTANTS[code])
            elif code == ord("("):
                marks.append(stack)
                stack = []
            elif code in _EMPTY:
                stack.append(_Container(_EMPTY[code]))
            elif code in b"t\x85\x86\x87aseu":
                count = _COUNTS.get(code)
                items = stack[-count:] if count else stack
                stack = stack[:-count] if count else marks.pop()
                if code in b"aseu":
                    stack[-1].extend(items, is_list=code in b"ae")
                else:
                    stack.append(_Container("tuple", items))
            elif code == ord("c"):
                stack.append(_Name(argument))
            elif code in b"RbQ":
                value = stack.pop()
                if code == ord("b"):
                    _check_attributes(stack[-1], value)
                else:
                    stack.append(self._stored(value) if code == ord("Q") else self._call(stack.pop(), value))
            elif code != 0x80:  # PROTO
                raise HarmfulPickle(f"its opcode {code:#x} is not allowed")
        return position + 1

    def _usual_tensor(self, match: re.Match[bytes], memo: dict[int, Any]) -> Any:
        """A tensor as torch.save writes it, in one step."""
        word, kind, length, key, key_put, place, count, put1, offset, shape, put2, strides, put3, hooks, put4, put5 = (
            match.groups()
        )
        name = key.decode()
        are_usual = memo[index_in(word)] == "storage" and memo[index_in(hooks)] == "collections OrderedDict"
        if not are_usual or length[0] != len(key) or type(memo[index_in(place)]) is not str:
            raise HarmfulPickle("it refers to something other than a storage")
        storage = self._storage(memo[index_in(kind)], name, numbers_in(count)[0])
        memo[index_in(key_put)] = name
        for put in filter(None, (put1, put2, put3, put4, put5)):
            memo[index_in(put)] = _PART
        self._check_tensor(storage, numbers_in(shape), numbers_in(strides), numbers_in(offset)[0], storage.item_size)
        return _PART

    def _share(self, value: Any, position: int) -> None:
        """Count what the memo returns: what a few bytes repeat has to be in proportion to what was read so far."""
        if type(value) is _Container:
            value.is_shared = True
            self._shared += value.size
        elif type(value) in (str, bytes):
            self._shared += len(value)
        if self._shared > MOST_GROWTH * position + _FREE_VALUES:
            raise HarmfulPickle(_TOO_LARGE)

    def _stored(self, identity: Any) -> _Storage:
        """The storage that a persistent id means; in a file of torch before 1.6, perhaps a part of it."""
        match getattr(identity, "items", None):
            case ["storage", _Name() as kind, str(key), str(), int(count), *view] if key.isascii():
                whole = self._storage(kind, key, count)
            case _:
                raise HarmfulPickle("it refers to something other than a storage")
        match getattr(view[0], "items", None) if view else None:
            case None:
                return whole
            case [str(part), int(offset), int(size)] if 0 <= offset <= count - size:
                return self._noted(part, _Storage(size * whole.item_size, whole.item_size), whole.size)
        raise HarmfulPickle("it refers to something other than a storage")

    def _storage(self, kind: str, key: str, count: int) -> _Storage:
        item_size = ITEM_BYTES[kind.rpartition(" ")[2].removesuffix("Storage")]
        self.bytes_stored += count * item_size if key not in self._storages else 0
        return self._noted(key, _Storage(count * item_size, item_size), self._most_of(key))

    def _noted(self, key: str, storage: _Storage, most: int) -> _Storage:
        if not 0 <= storage.size <= most or self._storages.setdefault(key, storage) != storage:
            raise HarmfulPickle("a storage is larger than the file's part for it")
        return storage

    def _call(self, function: Any, arguments: Any) -> Any:
        """Return a placeholder for the result of a call, if the call is harmless."""
        is_tuple = type(arguments) is _Container and arguments.kind == "tuple"
        items: list[Any] = arguments.items if is_tuple else [None]
        match (str(function) if type(function) is _Name else None), items:
            case name, [_Storage() as storage, int(offset), _Container() as shape, _Container() as strides, *rest] if (
                name in TENSORS
            ):
                is_new = str(name).endswith("v3")
                item_size = getattr(torch, rest[2].split()[1]).itemsize if is_new else storage.item_size
                self._check_tensor(storage, tuple(shape.items), tuple(strides.items), offset, item_size)
            case "torch._tensor _rebuild_from_type_v2", [rebuild, kind, inner, _] if kind in TYPES:
                self._call(rebuild, inner)
            case name, [_Container(), *_] if name in OF_TENSORS:
                pass  # another form of tensors that were checked
            case "torch device" | "torch.serialization _get_layout", [str(), *_]:
                pass
            case "torch Size", [_Container(kind="tuple" | "list") as sizes]:
                return _Container("tuple", sizes.items)
            case "builtins complex", [int() | float(), int() | float()]:
                return complex(*items)
            case "_codecs encode", [str(text), "latin1"]:
                return text.encode("latin1")
            case "builtins bytearray", [] | [bytes()] | [str(), "latin-1"]:
                return bytearray(*items)
            case "collections OrderedDict" | "collections Counter", []:
                return _Container(str(function).split()[1])
            case "collections OrderedDict", [_Container(kind="list") as pairs]:  # written by Python 2
                return _Container("OrderedDict", [pairs]).with_keys([pair.items[0] for pair in pairs.items])
            case "collections Counter", [_Container(kind="dict")]:
                return _Container("Counter", items)
            case "builtins set", [_Container(kind="list") as members]:
                return _Container("set", items).with_keys(members.items)
            case name, _:
                raise HarmfulPickle(f"it calls {(name or 'a value').replace(' ', '.')}")
        return _Container("result", items)

    def _check_tensor(
        self, storage: _Storage, shape: tuple[int, ...], strides: tuple[int, ...], offset: int, item_size: int
    ) -> None:
        """Refuse a tensor that does not lie within its storage: torch would make the storage larger."""
        count, end = _extent(shape, strides)
        self._bytes_left -= count * item_size
        if offset < 0 or self._bytes_left < 0 or (count and (offset + end) * item_size > storage.size):
            raise HarmfulPickle(_TOO_LARGE)


@lru_cache(maxsize=4096)
def _extent(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, int]:
    """How many numbers a tensor has, and how far it reaches."""
    if {*map(type, shape + strides)} - {int} or min(shape + strides, default=0) < 0:
        raise HarmfulPickle("the shape of a tensor is not made of numbers")
    return math.prod(shape), 1 + sum((length - 1) * step for length, step in zip(shape, strides, strict=True))


def _check_attributes(value: Any, state: Any) -> None:
    """Refuse attributes other than new ones of an OrderedDict: a state_dict has the versions of its modules in one."""
    match value, state:
        case _Container(kind="OrderedDict", is_shared=False), _Container(kind="dict", items=items) if not any(
            hasattr(OrderedDict, name) for name in items[::2]
        ):
            return
    raise HarmfulPickle("it sets attributes")
