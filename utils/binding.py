"""The signature is the schema: bind every section's `args` to what it names, and report every mistake at once."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from utils.errors import ConfigError, UserError, closest
from utils.lookup import KINDS, Kind, look_up

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class Component:
    """A callable with the arguments that the config gives it, checked but not yet called.

    `section`: where it stands in the config. `extra`: the section's keys beside `type` and `args`.
    """

    section: str
    target: Callable[..., Any]
    args: dict[str, Any]
    kind: Kind
    extra: dict[str, Any]

    def build(self, **provided: Any) -> Any:
        """Call it; a function of (output, target) is not called, but given its arguments.

        Raises:
            ConfigError: the callable refuses a value (ValueError), finds no file, or is a library's and fails.
        """
        given = {name: value for name, value in provided.items() if name in parameters(self.target)}
        args = {name: _build_nested(value, provided) for name, value in self.args.items()}
        if self.kind.positional and inspect.isfunction(self.target):
            return partial(self.target, **args) if args else self.target
        try:
            return self.target(**given, **args)
        except UserError:
            raise
        except (ValueError, OSError, TypeError, KeyError, AssertionError) as error:
            if not isinstance(error, (ValueError, OSError)) and not self._is_of_a_library:
                raise
            name = getattr(self.target, "__name__", str(self.target))
            raise ConfigError(f"{self.section}.args: {name} refuses them: {str(error).rstrip('.')}.") from error

    @property
    def _is_of_a_library(self) -> bool:
        return self.target.__module__.split(".")[0] in {library.split(".")[0] for library in self.kind.libraries}


def _build_nested(value: Any, provided: dict[str, Any]) -> Any:
    if isinstance(value, Component):
        return value.build(**provided)
    if isinstance(value, list):
        return [_build_nested(item, provided) for item in value]
    return value


def bind_section(where: str, section: Any, kind_name: str, mistakes: list[str]) -> Component | None:
    """Look up what a section names and bind its `args`; None, and lines in `mistakes`, where that fails."""
    kind = KINDS[kind_name]
    if isinstance(section, str):
        section = {"type": section}
    if not isinstance(section, dict) or not isinstance(section.get("type"), str):
        mistakes.append(f'{where}: found {section!r}. Name {kind.title} as {{"type": NAME, "args": {{...}}}}.')
        return None
    check_keys(where, section, ("type", "args", *kind.extra_keys), mistakes)
    args = section.get("args", {})
    if not isinstance(args, dict):
        mistakes.append(f"{where}.args: found {args!r}. Write an object: {{...}}.")
        return None
    try:
        target = look_up(kind, section["type"])
    except ConfigError as error:
        mistakes.extend(f"{where}.type: {mistake}" for mistake in error.mistakes)
        return None
    taken = parameters(target)
    for name in kind.required:
        if name not in taken and not any(parameter.kind in _VARIADIC for parameter in taken.values()):
            mistakes.append(f"{where}.type: {section['type']} takes no {name}. Its constructor must.")
    skipped = kind.positional if inspect.isfunction(target) else 0
    check_arguments(f"{where}.args", target, args, kind.provided, mistakes, skipped)
    bound = {key: _bind_nested(f"{where}.args.{key}", value, kind.nested, mistakes) for key, value in args.items()}
    extra = {key: section[key] for key in kind.extra_keys if key in section}
    return Component(where, target, bound, kind, extra)


def _bind_nested(where: str, value: Any, kind_name: str, mistakes: list[str]) -> Any:
    """Sections inside `args`, in lists too, become components of the outer section's nested kind."""
    if not kind_name:
        return value
    if isinstance(value, dict) and "type" in value:
        return bind_section(where, value, kind_name, mistakes)
    if isinstance(value, list):
        return [_bind_nested(f"{where}.{i}", item, kind_name, mistakes) for i, item in enumerate(value)]
    return value


def check_keys(where: str, section: dict[str, Any], allowed: Sequence[str], mistakes: list[str]) -> None:
    """Report the keys of a section that do not belong there."""
    for key in section:
        if key not in allowed:
            mistakes.append(f"{where}.{key}".lstrip(".") + f": unknown key. {closest(key, allowed)}")


def check_arguments(
    where: str,
    target: Callable[..., Any],
    args: dict[str, Any],
    provided: Iterable[str],
    mistakes: list[str],
    positional: int = 0,
) -> None:
    """Report arguments that `target` does not take, that `train.py` passes itself, or that are missing."""
    own = dict(list(parameters(target).items())[positional:])
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in own.values())
    free = {
        name: parameter for name, parameter in own.items() if name not in provided and parameter.kind not in _VARIADIC
    }
    for name in args:
        if name not in free and (not takes_any or name in own or name in provided):
            mistakes.append(f"{where}.{name}: {target.__name__} takes no such argument. {closest(name, free)}")
    for name, parameter in free.items():
        if parameter.default is inspect.Parameter.empty and name not in args:
            mistakes.append(f"{where}.{name}: missing; {target.__name__} requires it.")


def parameters(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What a callable takes by name. Where a class passes `**kwargs` on, those of its base's constructor, too.

    None of those counts as required: the class may give it itself.
    """
    found = dict(inspect.signature(target).parameters)
    constructors = [cls.__init__ for cls in getattr(target, "__mro__", ())[1:] if "__init__" in vars(cls)]
    for constructor in constructors:
        rest = [name for name, parameter in found.items() if parameter.kind is inspect.Parameter.VAR_KEYWORD]
        if not rest:
            break
        _, *inherited = inspect.signature(constructor).parameters.items()
        found = {name: parameter for name, parameter in found.items() if name not in rest}
        found |= {
            name: parameter if parameter.kind in _VARIADIC else parameter.replace(default=None)
            for name, parameter in inherited
            if name not in found
        }
    return found
