"""What a class or function takes by name, and of which type."""

import inspect
import types
import typing
from collections import abc
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from utils.config.lookup import Kind
from utils.config.schemas import Schema, fits, schema_of, schema_of_default

VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@lru_cache(maxsize=512)
def parameters(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What a callable takes by name. Where it passes `**kwargs` on, those of its base's constructor, too; of a
    function, those of the class that it says it returns.

    None of those counts as required: it may give them itself; a function has to, where the class requires them.
    """
    found = _own(target)
    is_function = inspect.isfunction(target)
    for constructor in _passed_on_to(target):
        rest = [name for name, parameter in found.items() if parameter.kind is inspect.Parameter.VAR_KEYWORD]
        if not rest:
            break
        _, *inherited = _own(constructor).items()
        found = {name: parameter for name, parameter in found.items() if name not in rest}
        found |= {
            name: parameter if parameter.kind in VARIADIC else _optional(parameter)
            for name, parameter in inherited
            if name not in found and not (is_function and parameter.default is parameter.empty and _is_named(parameter))
        }
    return found


def schema_of_parameter(parameter: inspect.Parameter) -> Schema:
    if parameter.annotation is inspect.Parameter.empty:
        return schema_of_default(parameter.default)
    schema = schema_of(parameter.annotation)
    if parameter.default is None and not fits(schema, None):  # `hidden: int = None` is written, too
        return {"anyOf": [*schema.get("anyOf", [schema]), {"type": "null"}]}
    return schema


def _own(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Its own parameters, each annotation read by itself: one that only a type checker can read spoils no other."""
    namespace = vars(typing) | vars(abc) | getattr(inspect.unwrap(_function_of(target)), "__globals__", {})
    return {
        name: parameter.replace(annotation=_annotation(parameter, namespace))
        for name, parameter in inspect.signature(target).parameters.items()
    }


def _function_of(target: Any) -> Any:
    return target.__init__ if inspect.isclass(target) else target


def _annotation(parameter: inspect.Parameter, namespace: dict[str, Any]) -> Any:
    """Without one, what the default says where that is a tuple or a class."""
    found = parameter.annotation
    if found is inspect.Parameter.empty:
        if inspect.isclass(parameter.default) and parameter.default is not inspect.Parameter.empty:
            return type
        return tuple if isinstance(parameter.default, tuple) else found
    if not isinstance(found, str):
        return found
    try:
        holder = types.SimpleNamespace(__annotations__={"it": found})
        return typing.get_type_hints(holder, globalns=namespace, include_extras=True)["it"]
    except Exception:  # whatever reading it raises: the annotation is of no use then
        return Any


def _passed_on_to(target: Any) -> list[Callable[..., Any]]:
    returned = getattr(target, "__annotations__", {}).get("return") if inspect.isfunction(target) else None
    classes = returned.__mro__ if inspect.isclass(returned) else getattr(target, "__mro__", ())[1:]
    return [vars(cls)["__init__"] for cls in classes if "__init__" in vars(cls)]


def _is_named(parameter: inspect.Parameter) -> bool:
    return parameter.kind not in VARIADIC


def _optional(parameter: inspect.Parameter) -> inspect.Parameter:
    is_required = parameter.default is inspect.Parameter.empty
    return parameter.replace(default=None) if is_required else parameter


def own_parameters(target: Callable[..., Any], kind: Kind) -> dict[str, inspect.Parameter]:
    """Those that a config may give: not what `train.py` provides, nor the tensors of each call."""
    skipped = kind.positional if inspect.isfunction(target) else 0
    return {
        name: parameter
        for name, parameter in list(parameters(target).items())[skipped:]
        if name not in kind.provided and parameter.kind not in VARIADIC
    }


def signature_text(target: Callable[..., Any], kind: Kind) -> str:
    """As a person would write the call: `LeNet(num_classes, hidden=64)`."""
    texts = [
        name if parameter.default is inspect.Parameter.empty else f"{name}={default_text(parameter.default)}"
        for name, parameter in own_parameters(target, kind).items()
    ]
    return f"{target.__name__}({', '.join(texts)})"


def default_text(default: Any) -> str:
    return default.__name__ if inspect.isclass(default) or inspect.isfunction(default) else repr(default)


def takes_more(target: Callable[..., Any]) -> bool:
    """Whether it takes arguments that its signature does not name."""
    return any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters(target).values())
