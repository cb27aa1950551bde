"""From an annotation to what a config may say there: as a JSON schema, in words, and as the value that the code gets.

A schema here is one of https://json-schema.org (2020-12), with two words more: `nested` is "object" where the code
takes an object that a section of its own can name, and "factory" where it takes what makes one (a class); `kind` is
that of the section, where the annotation tells it.
"""

import inspect
import math
import os
import types
from collections import abc
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, field, fields
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin, is_typeddict

from utils.config.numerals import number_in
from utils.errors import closest, shown

Schema = dict[str, Any]

_PLAIN = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
_LISTS = (list, tuple, set, frozenset, abc.Sequence, abc.Iterable, abc.Collection, abc.MutableSequence)
# What sections build, and of which kind they are; "" where that depends on the section around them. Of other classes,
# nothing can be said in a config.
_BUILT = {
    "torch.nn.modules.module.Module": "",
    "torch.utils.data.sampler.Sampler": "",
    "torch.optim.lr_scheduler.LRScheduler": "",
    "torch.optim.optimizer.Optimizer": "optimizer",
}
_WORDS = {"boolean": "true or false", "integer": "a whole number", "number": "a number", "string": "text"}
_WORDS |= {"null": "null", "array": "a list", "object": "an object {...}"}


def option(meaning: str, default: Any = MISSING, kind: str = "", **limits: Any) -> Any:
    """A field of a dataclass of options: what it means, and limits in the words of JSON schema (`minimum=1`).

    `kind`: of the section that stands there, in the words of `utils.config.lookup.KINDS`.
    """
    return field(default=default, metadata={"meaning": meaning, "kind": kind, "limits": limits})


def schemas_of_options(options: Any) -> dict[str, Schema]:
    """The schema of each field of a dataclass of options, with limits, meaning and default."""
    return {
        item.name: limited(schema_of(item.type), item.metadata["limits"])
        | {"description": item.metadata["meaning"]}
        | ({} if item.default is MISSING else {"default": item.default})
        for item in fields(options)
    }


def limited(schema: Schema, limits: Schema) -> Schema:
    """With limits on its numbers."""
    if "anyOf" in schema:
        return {"anyOf": [limited(choice, limits) for choice in schema["anyOf"]]}
    return schema | (limits if schema.get("type") in ("integer", "number") else {})


def schema_of(annotation: Any) -> Schema:
    """What a config may say for a parameter with this annotation; {}, anything, where that cannot be told."""
    if annotation is None or (inspect.isclass(annotation) and annotation in _PLAIN):
        return {"type": _PLAIN[annotation or type(None)]}
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return _schema_of_union(arguments)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Annotated, Final):
        return schema_of(arguments[0])
    if isinstance(annotation, TypeVar):
        return _schema_of_union(annotation.__constraints__ or (annotation.__bound__ or Any,))
    if inner := getattr(annotation, "__supertype__", None):  # of a NewType
        return schema_of(inner)
    if origin is type or annotation is type:
        return _factory_of(schema_of(*arguments[:1] or [Any]))
    if origin is abc.Callable and len(arguments) == 2 and arguments[1] in (bool, int, float) and len(arguments[0]) == 1:
        return {"nested": "factory", "kind": "function"}  # a function of one argument, itself
    if origin is abc.Callable:
        made = schema_of(arguments[1]) if arguments and inspect.isclass(arguments[1]) else {}
        return _factory_of(made) if "nested" in made else {"nested": "object"}
    return _schema_of_class(origin or annotation, arguments)


def schema_of_default(default: Any) -> Schema:
    """What may be said where there is no annotation: no text for a number, nothing but true and false for a switch."""
    if isinstance(default, bool):
        return {"anyOf": [{"type": "boolean"}, {"type": "null"}]}
    if isinstance(default, (int, float)):
        return {"anyOf": [{"type": "number"}, {"type": "array"}, {"type": "null"}]}
    if isinstance(default, str):
        return {"anyOf": [{"type": name} for name in ("string", "array", "object", "null")]}
    return {}


def _factory_of(made: Schema) -> Schema:
    return {"nested": "factory"} | {name: value for name, value in made.items() if name == "kind"}


def _schema_of_union(arguments: tuple[Any, ...]) -> Schema:
    plain = [argument for argument in arguments if not _is_tensor(argument)]
    if set(plain) == {type(None)}:
        plain = list(arguments)  # beside other choices, nobody writes a tensor out
    choices = [schema_of(argument) for argument in plain]
    if not all(choices):
        return {}
    flat = [part for choice in choices for part in choice.get("anyOf", [choice])]
    unique = [part for i, part in enumerate(flat) if part not in flat[:i]]
    return unique[0] if len(unique) == 1 else {"anyOf": unique}


def _schema_of_class(base: Any, arguments: tuple[Any, ...]) -> Schema:
    if not inspect.isclass(base) or base in (Any, object, inspect.Parameter.empty):
        return {}
    if base in _LISTS:
        return {"type": "array"} | _schema_of_items(base, arguments)
    if _name(base) in ("numbers.Number", "numbers.Real"):
        return {"type": "number"}
    if is_typeddict(base):
        return {"type": "object"}
    if issubclass(base, Mapping):
        return {"type": "object"} | ({"additionalProperties": schema_of(arguments[1])} if len(arguments) == 2 else {})
    if issubclass(base, Enum):
        return {"enum": _enum_names(base)}
    if issubclass(base, os.PathLike) or _name(base) in ("os.PathLike", "torch.device"):
        return {"type": "string"}
    if _name(base) == "torch.dtype":
        return {"enum": _dtypes()}
    if _is_tensor(base):
        return {"type": "array"}
    for name in map(_name, base.__mro__):
        if name in _BUILT:
            return {"nested": "object"} | ({"kind": _BUILT[name]} if _BUILT[name] else {})
    return {}


def _schema_of_items(base: Any, arguments: tuple[Any, ...]) -> Schema:
    if base is tuple and arguments and arguments[-1] is not Ellipsis:
        size = len(arguments)
        return {"prefixItems": [schema_of(argument) for argument in arguments], "minItems": size, "maxItems": size}
    items = schema_of(arguments[0]) if arguments else {}
    return {"items": items} if items else {}


def _is_tensor(annotation: Any) -> bool:
    return inspect.isclass(annotation) and _name(annotation) == "torch.Tensor"


def _name(base: type) -> str:
    return f"{base.__module__}.{base.__qualname__}"


def _enum_names(enum: type[Enum]) -> list[str]:
    texts = [member.value for member in enum if isinstance(member.value, str)]
    return texts if len(texts) == len(enum) else list(enum.__members__)


def _dtypes() -> list[str]:
    import torch

    return sorted(name for name, found in vars(torch).items() if isinstance(found, torch.dtype))


# ---- checking ----


def fits(schema: Schema, value: Any) -> bool:
    """Whether a config may say this there; what is to be nested is not looked into."""
    if "anyOf" in schema:
        return any(fits(choice, value) for choice in schema["anyOf"])
    if "nested" in schema:
        return isinstance(value, str) or (isinstance(value, dict) and "type" in value)
    if "enum" in schema:
        return any(value == choice and type(value) is type(choice) for choice in schema["enum"])
    return _has_type(schema, value) and _is_within(schema, value)


def _has_type(schema: Schema, value: Any) -> bool:
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return isinstance(value, int if kind == "integer" else (int, float)) and not isinstance(value, bool)
    expected = {"boolean": bool, "string": str, "null": type(None), "array": list, "object": dict}
    return kind is None or isinstance(value, expected[kind])


def _is_within(schema: Schema, value: Any) -> bool:
    if isinstance(value, list):
        parts = schema.get("prefixItems", [])
        if parts and len(parts) != len(value):
            return False
        parts = parts or [schema.get("items", {})] * len(value)
        return all(fits(part, item) for part, item in zip(parts, value, strict=True))
    if isinstance(value, dict):
        return all(fits(schema.get("additionalProperties", {}), item) for item in value.values())
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        least, most = schema.get("minimum", value), schema.get("maximum", value)
        return least <= value <= most and value > schema.get("exclusiveMinimum", -math.inf)
    return True


def described(schema: Schema) -> str:
    """What may be said, in words."""
    choices = schema.get("anyOf", [schema])
    return " or ".join(map(_described_one, choices))


def _described_one(schema: Schema) -> str:
    if "nested" in schema:
        return 'a section {"type": NAME, "args": {...}}'
    if "enum" in schema:
        return ", ".join(str(choice) for choice in schema["enum"])
    text = _WORDS.get(schema.get("type", ""), "anything")
    if "maximum" in schema:
        return f"{text} from {schema['minimum']} to {schema['maximum']}"
    text += f" of at least {schema['minimum']}" if "minimum" in schema else ""
    text += f" above {schema['exclusiveMinimum']}" if "exclusiveMinimum" in schema else ""
    if "prefixItems" in schema:
        return f"{text} of {len(schema['prefixItems'])}: {', '.join(map(described, schema['prefixItems']))}"
    return text + (f", each {described(schema['items'])}" if schema.get("items") else "")


def misfit(schema: Schema, value: Any) -> str | None:
    """What is wrong with a value, and what to write; None where it fits."""
    if fits(schema, value):
        return None
    choices = schema.get("anyOf", [schema])
    if all("enum" in choice for choice in choices if choice.get("type") != "null"):
        names = [str(name) for choice in choices for name in choice.get("enum", ["null"])]
        few = f"Choices: {', '.join(sorted(names))}."
        return f"found {shown(value)}. {closest(str(value), names) if len(names) > 12 else few}"
    is_quoted = isinstance(value, str) and any(fits(schema, number) for number in _meant_by(value))
    size = ", which is too large" if isinstance(value, str) and math.isinf(number_in(value) or 0) else ""
    return f"found {shown(value)}{size}. Write {described(schema)}{', without quotes' if is_quoted else ''}."


def _meant_by(text: str) -> list[Any]:
    words = {"true": True, "false": False, "null": None}
    number = number_in(text)
    return [words[text]] if text in words else [] if number is None or math.isinf(number) else [number]


# ---- the value that the code gets ----


def converted(annotation: Any, value: Any) -> Any:
    """What fits, as the annotation has it: a tuple, an enum's member, a torch.dtype, a path, a tensor."""
    origin, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if origin in (Union, types.UnionType):
        fitting = [argument for argument in arguments if schema_of(argument) and fits(schema_of(argument), value)]
        return converted(fitting[0], value) if fitting else value
    if origin in (Annotated, Final):
        return converted(arguments[0], value)
    if not inspect.isclass(origin):
        return value
    if isinstance(value, list) and origin in _LISTS:
        return _converted_list(origin, arguments, value)
    if isinstance(value, dict) and len(arguments) == 2:
        return {key: converted(arguments[1], item) for key, item in value.items()}
    if not isinstance(value, (str, list)):
        return value
    if _name(origin) in ("torch.dtype", "torch.device", "torch.Tensor"):
        return _of_torch(_name(origin), value)
    if isinstance(value, str) and issubclass(origin, Enum):
        members = {member.value: member for member in origin}
        return members[value] if value in members else origin[value]
    return Path(value) if isinstance(value, str) and issubclass(origin, Path) else value


def _converted_list(origin: Any, arguments: tuple[Any, ...], value: list[Any]) -> Sequence[Any]:
    is_fixed = origin is tuple and bool(arguments) and arguments[-1] is not Ellipsis
    annotations = arguments if is_fixed else [arguments[0] if arguments else Any] * len(value)
    items = [converted(part, item) for part, item in zip(annotations, value, strict=True)]
    return origin(items) if origin in (tuple, set, frozenset) else items


def _of_torch(name: str, value: Any) -> Any:
    import torch

    if name == "torch.Tensor":
        return torch.tensor(value, dtype=torch.get_default_dtype())  # weights, as losses want them
    return getattr(torch, value) if name == "torch.dtype" else torch.device(value)
