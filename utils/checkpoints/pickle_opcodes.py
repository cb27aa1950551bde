"""Decode the opcodes of the pickles that torch writes."""

import re
import struct
from functools import lru_cache
from typing import Any

_FORMS = {"K": "<B", "M": "<H", "J": "<i", "G": ">d", "h": "<B", "j": "<I", "q": "<B", "r": "<I", "X": "<I", "U": "<B"}
_STRUCTS = {ord(code): struct.Struct(form) for code, form in _FORMS.items()}
_STRUCTS |= {0x80: struct.Struct("B"), 0x8A: struct.Struct("B")}


def argument_of(code: int, content: Any, position: int) -> tuple[Any, int]:
    """The argument of an opcode, None for one without; and the position behind it. Raises `ValueError`."""
    if code == ord("c"):  # the name of a class or function, in two lines
        middle = content.find(b"\n", position)
        end = content.find(b"\n", middle + 1)
        return content[position:end].decode().replace("\n", " ").replace("__builtin__ ", "builtins "), end + 1
    if code not in _STRUCTS:
        return None, position
    (argument,) = _STRUCTS[code].unpack_from(content, position)
    position += _STRUCTS[code].size
    if code not in b"XU\x8a":
        return argument, position
    text = content[position : position + argument]
    if len(text) < argument:
        raise ValueError("a text that is longer than the file")
    value = int.from_bytes(text, "little", signed=True) if code == 0x8A else str(text, "utf-8", "surrogatepass")
    return value, position + argument


@lru_cache(maxsize=4096)
def numbers_in(code: bytes) -> tuple[int, ...]:
    """The whole numbers that these opcodes push."""
    numbers, position = [], int(code.startswith(b"("))
    while position < len(code) and code[position] in b"KMJ":
        number, position = argument_of(code[position], code, position + 1)
        numbers.append(number)
    return tuple(numbers)


def index_in(code: bytes) -> int:
    """The place in the memo that an opcode names."""
    return int.from_bytes(code[1:], "little")


# A tensor as torch.save writes it behind the function's name: ((storage, kind, key, location, count), offset, shape,
# strides, requires_grad, OrderedDict()). One match instead of thirty opcodes makes the scan three times as fast.
_PARTS = {
    b"GET": rb"(h.|j....)",
    b"PUT": rb"(q.|r....)",
    b"TUPLE": rb"(\)|INT\x85|INTINT\x86|INTINTINT\x87|\((?:INT){4,}t)",
    b"INT": rb"(?:K.|M..|J....)",
}
_TENSOR = rb"\(\(GETGETX(.)\0\0\0(\d{1,9})PUTGET(INT)tPUT?Q(INT)TUPLEPUT?TUPLEPUT?[\x88\x89]GET\)RPUT?tPUT?R"
for _name, _pattern in _PARTS.items():
    _TENSOR = _TENSOR.replace(_name, _pattern)
TENSOR = re.compile(_TENSOR, re.DOTALL)
