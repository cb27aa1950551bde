"""The signature is the schema: bind every section's `args` to what it names, and report every mistake at once."""

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import partial
from typing import Any

from utils.config import Config
from utils.errors import ConfigError, UserError, closest, shown
from utils.frames import own_line
from utils.lookup import KINDS, Kind, look_up
from utils.places import Places
from utils.schemas import Schema, converted, fits, misfit, schemas_of_options
from utils.secrets import REDACTED, is_secret
from utils.signatures import VARIADIC, own_parameters, parameters, schema_of_parameter, takes_more

SECTION = '{"type": NAME, "args": {...}}'
# What a constructor raises for a value that it cannot use; other errors are mistakes in its code.
_REFUSALS = (ValueError, OSError, TypeError, LookupError, AssertionError, RuntimeError, ArithmeticError)


@dataclass(frozen=True)
class Component:
    """A callable with the arguments that the config gives it, checked but not yet called.

    `section`: where it stands in the config. `extras`: the section's keys beside `type` and `args`.
    `is_factory`: the code that it is for calls it itself.
    """

    section: str
    target: Callable[..., Any]
    args: dict[str, Any]
    kind: Kind
    extras: Any = None
    is_factory: bool = False

    def build(self, **provided: Any) -> Any:
        """Call it; a function of (output, target), and a factory, are not called, but given their arguments.

        Raises:
            ConfigError: the callable refuses a value; says where.
        """
        given = {name: value for name, value in provided.items() if name in parameters(self.target)}
        args = {name: _build_nested(value, provided) for name, value in self.args.items()}
        if self.is_factory or (self.kind.positional and inspect.isfunction(self.target)):
            return partial(self.target, **args) if args else self.target
        try:
            return self.target(**given, **args)
        except UserError:
            raise
        except _REFUSALS as error:
            name = getattr(self.target, "__name__", str(self.target))
            reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
            line = None if isinstance(error, (ValueError, OSError)) else own_line(error)  # those say what is wrong
            where = f" ({line})" if line else ""
            raise ConfigError(f"{self.section}.args: {name} refuses them: {reason}{where}.") from error


def _below(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _build_nested(value: Any, provided: dict[str, Any]) -> Any:
    if isinstance(value, Component):
        return value.build(**provided)
    if isinstance(value, (list, tuple)):
        return type(value)(_build_nested(item, provided) for item in value)
    return {key: _build_nested(item, provided) for key, item in value.items()} if isinstance(value, dict) else value


class Binder:
    """Binds sections, and gathers the mistakes in all of them."""

    def __init__(self, places: Places):
        self.places = places
        self.mistakes: list[str] = []
        self.texts: dict[str, str] = {}  # values that turned out to be meant as text, by key

    def section(self, where: str, section: Any, kind_name: str, is_factory: bool = False) -> Component | None:
        """Look up what a section names and bind its `args`; None, and lines in `mistakes`, where that fails."""
        kind = KINDS[kind_name]
        if isinstance(section, str):
            section = {"type": section}
        if not isinstance(section, dict):
            self.mistakes.append(f"{where}: found {shown(section)}. Name {kind.title} as {SECTION}.")
            return None
        name, args = section.get("type", kind.default_type), section.get("args", {})
        own_keys = {key: value for key, value in section.items() if key not in ("type", "args")}
        extras = self.options(where, own_keys, kind.extras, ("type", "args"))
        if not isinstance(name, str):
            found = f"found {shown(name)}" if "type" in section else "missing"
            self.mistakes.append(f"{where}.type: {found}. Name {kind.title} as {SECTION}.")
            return None
        if not isinstance(args, dict):
            self.mistakes.append(f"{where}.args: found {shown(args)}. Write an object: {{...}}.")
            return None
        try:
            target = look_up(kind, name)
        except ConfigError as error:
            self.mistakes.extend(f"{where}.type: {mistake}" for mistake in error.mistakes)
            return None
        taken = parameters(target)
        for required in kind.required:
            if required not in taken and not any(parameter.kind in VARIADIC for parameter in taken.values()):
                self.mistakes.append(f"{where}.type: {name} takes no {required}. Its constructor must.")
        bound = self.arguments(f"{where}.args", target, args, kind, is_factory)
        return Component(where, target, bound, kind, extras, is_factory)

    def options(self, where: str, values: Mapping[str, Any], options: Any, others: Sequence[str] = ()) -> Any:
        """A dataclass of options from a section's keys; None where a required one is missing or a value cannot be.

        `others`: keys that stand beside them.
        """
        schemas = schemas_of_options(options) if options else {}
        self.check_keys(where, values, (*others, *schemas))
        if options is None:
            return None
        kinds = {item.name: item.metadata["kind"] for item in fields(options)}
        values = {
            key: self._option(_below(where, key), values[key], schema, kinds[key])
            for key, schema in schemas.items()
            if key in values
        }
        missing = [item.name for item in fields(options) if item.default is MISSING and item.name not in values]
        self.mistakes.extend(f"{_below(where, name)}: missing." for name in missing)
        try:
            return None if missing else options(**values)
        except ConfigError as error:
            self.mistakes.extend(_below(where, mistake) for mistake in error.mistakes)
            return None

    def resolved(self, config: Config) -> Config:
        """The config with its values as they were meant."""
        config = copy.deepcopy(config)
        for where, text in self.texts.items():
            holder: Any = config
            *parents, last = [int(name) if name.isdigit() else name for name in where.split(".")]
            for name in parents:
                holder = holder[name]
            holder[last] = text
        return config

    def _option(self, where: str, value: Any, schema: Schema, kind_name: str) -> Any:
        if not kind_name or value is None:
            return self.value(where, value, schema)
        component = self.section(where, value, kind_name)
        return component.build if component else None

    def check_keys(self, where: str, section: Iterable[str], allowed: Sequence[str]) -> None:
        """Report the keys of a section that do not belong there."""
        for key in section:
            if key not in allowed:
                self.mistakes.append(_below(where, key) + f": unknown key. {closest(key, allowed)}")

    def value(self, where: str, value: Any, schema: Schema) -> Any:
        """A value as it was meant: what was typed behind `--set` for a text is text, whatever it looks like."""
        text = self.places.text(where)
        if text is None or fits(schema, value) or not fits(schema, text):
            return value
        self.texts[where] = text
        return text

    def arguments(
        self, where: str, target: Callable[..., Any], args: dict[str, Any], kind: Kind, may_lack: bool = False
    ) -> dict[str, Any]:
        """The arguments as the code gets them. Reports those that `target` does not take, that `train.py` passes
        itself, that do not fit, and, unless it `may_lack` some, those that are missing."""
        taken, free = parameters(target), own_parameters(target, kind)
        bound = {}
        for name, value in args.items():
            if name not in free and (not takes_more(target) or name in taken or name in kind.provided):
                self.mistakes.append(f"{where}.{name}: {target.__name__} takes no such argument. {closest(name, free)}")
                continue
            bound[name] = self._argument(f"{where}.{name}", value, free.get(name), kind.nested)
        for name, parameter in free.items():
            if parameter.default is inspect.Parameter.empty and name not in args and not may_lack:
                self.mistakes.append(f"{where}.{name}: missing; {target.__name__} requires it.")
        return bound

    def _argument(self, where: str, value: Any, parameter: inspect.Parameter | None, kind_name: str) -> Any:
        """The value that the code gets; what `**kwargs` takes goes there as it is."""
        schema = schema_of_parameter(parameter) if parameter else {}
        value, mistakes_before = self.value(where, value, schema), len(self.mistakes)
        bound = self._bound(where, value, schema, kind_name)
        if parameter is None or len(self.mistakes) > mistakes_before:
            return bound
        try:
            return converted(parameter.annotation, bound)
        except (ValueError, TypeError, RuntimeError) as error:
            self.mistakes.append(f"{where}: found {shown(value)}: {' '.join(str(error).split())}.")
            return bound

    def _bound(self, where: str, value: Any, schema: Schema, kind_name: str) -> Any:
        """Sections become components where an object is taken, in lists and objects, too; all else must fit."""
        choices = schema.get("anyOf", [schema])
        if kind_name and (nested := _as_section(value, choices)):
            return self.section(where, value, kind_name, is_factory=nested == "factory")
        for choice in choices if kind_name or len(choices) == 1 else ():
            if (parts := _parts(choice, value)) is not None:
                items = value.items() if isinstance(value, dict) else enumerate(value)
                bound = {key: self._bound(f"{where}.{key}", item, parts[key], kind_name) for key, item in items}
                return bound if isinstance(value, dict) else list(bound.values())
        if mistake := misfit(schema, value):
            secret = is_secret(where.rpartition(".")[2])
            self.mistakes.append(f"{where}: {mistake.replace(shown(value), REDACTED) if secret else mistake}")
        return value


def _as_section(value: Any, choices: Sequence[Schema]) -> str:
    """Whether a value names something: "object" or "factory", as its place takes it; "" where it does not."""
    nested = next((choice["nested"] for choice in choices if "nested" in choice), "")
    if isinstance(value, str):  # where a text will do, it is one
        return "" if any(choice.get("type") == "string" for choice in choices) else nested
    is_section = isinstance(value, dict) and "type" in value
    return (nested or ("object" if {} in choices else "")) if is_section else ""


def _parts(choice: Schema, value: Any) -> dict[Any, Schema] | None:
    """The schema of each item, where it is a list or object that has this form."""
    if "enum" in choice or "nested" in choice:
        return None
    if isinstance(value, list) and choice.get("type", "array") == "array":
        parts = choice.get("prefixItems", [choice.get("items", {})] * len(value))
        return dict(enumerate(parts)) if len(parts) == len(value) else None
    if isinstance(value, dict) and choice.get("type", "object") == "object":
        return {key: choice.get("additionalProperties", {}) for key in value}
    return None
