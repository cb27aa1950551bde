"""What a class or function takes by name, and of which type."""

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from utils.lookup import Kind
from utils.schemas import Schema, fits, schema_of, schema_of_default

VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@lru_cache(maxsize=512)
def parameters(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What a callable takes by name. Where it passes `**kwargs` on, those of its base's constructor, too; of a
    function, those of the class that it says it returns.

    None of those counts as required: it may give them itself.
    """
    found = _own(target)
    for constructor in _passed_on_to(target):
        rest = [name for name, parameter in found.items() if parameter.kind is inspect.Parameter.VAR_KEYWORD]
        if not rest:
            break
        _, *inherited = _own(constructor).items()
        found = {name: parameter for name, parameter in found.items() if name not in rest}
        found |= {
            name: parameter if parameter.kind in VARIADIC else _optional(parameter)
            for name, parameter in inherited
            if name not in found
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
    try:
        return dict(inspect.signature(target, eval_str=True).parameters)
    except (NameError, TypeError, AttributeError, SyntaxError):  # an annotation that only a type checker can read
        return dict(inspect.signature(target).parameters)


def _passed_on_to(target: Any) -> list[Callable[..., Any]]:
    returned = getattr(target, "__annotations__", {}).get("return") if inspect.isfunction(target) else None
    classes = returned.__mro__ if inspect.isclass(returned) else getattr(target, "__mro__", ())[1:]
    return [vars(cls)["__init__"] for cls in classes if "__init__" in vars(cls)]


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
