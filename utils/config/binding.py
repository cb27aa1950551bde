"""The signature is the schema: bind every section's `args` to what it names, and report every mistake at once."""

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from functools import partial
from typing import Any

from utils.config.hooks import check_methods
from utils.config.loading import Config, below
from utils.config.lookup import KINDS, Kind, catalogue, look_up
from utils.config.places import Places
from utils.config.schemas import Schema, converted, fits, misfit, schemas_of_options
from utils.config.signatures import VARIADIC, own_parameters, parameters, schema_of_parameter, takes_more
from utils.errors import ConfigError, UserError, closest, shown
from utils.frames import MOST_CHARACTERS, is_deliberate, own_line
from utils.known_secrets import hidden
from utils.paths import PathError
from utils.secrets import REDACTED, redacted

SECTION = '{"type": NAME, "args": {...}}'
# What a constructor raises for a value that it cannot use; other errors are mistakes in its code.
_REFUSALS: tuple[type[Exception], ...] = (ValueError, OSError, TypeError, LookupError, AssertionError, RuntimeError)
_REFUSALS += (ArithmeticError, AttributeError, NameError)


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
        if self.is_factory:
            return partial(self._make, provided) if self.args else self.target
        given = {name: value for name, value in provided.items() if name in parameters(self.target)}
        args = {name: _build_nested(value, provided) for name, value in self.args.items()}
        if self.kind.positional and inspect.isfunction(self.target):
            return partial(self.target, **args) if args else self.target
        name = getattr(self.target, "__name__", str(self.target))
        try:
            if (made := self.target(**given, **args)) is None and self.kind.project:
                raise ConfigError(f"{self.section}.type: {name} returns None. Return what it makes.")
            return made
        except PathError as error:
            raise ConfigError(f"{self.section}.args: {error}") from error
        except UserError:
            raise
        except _REFUSALS as error:
            reason = hidden(" ".join(str(error).split()))[:MOST_CHARACTERS].rstrip(".") or type(error).__name__
            reason = f"KeyError: {reason}" if isinstance(error, KeyError) else reason
            if "empty parameter list" in reason:
                reason += ": the model has no parameters. Put layers that are in a list into nn.ModuleList(...)"
            where = f" ({line})" if (line := own_line(error)) and not is_deliberate(error) else ""
            raise ConfigError(f"{self.section}.args: {name} cannot be made: {reason}{where}.") from error

    def _make(self, provided: dict[str, Any], *given: Any, **options: Any) -> Any:
        """One more object of a factory, with nested ones of its own."""
        args = {name: _build_nested(value, provided) for name, value in self.args.items()}
        return self.target(*given, **args | options)


def _put(config: Config, where: str, value: Any) -> None:
    """Replace what stands under a dotted key; where a key has dots itself, nothing."""
    holder: Any = config
    last: Any
    *parents, last = [int(name) if name.isdecimal() and len(name) < 10 else name for name in where.split(".")]
    try:
        for name in parents:
            holder = holder[name]
        if last in holder or isinstance(holder, list):
            holder[last] = value
    except (LookupError, TypeError):
        return


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

    def section(
        self, where: str, section: Any, kind_name: str, is_nested: bool = False, is_factory: bool = False
    ) -> Component | None:
        """Look up what a section names and bind its `args`; None, and lines in `mistakes`, where that fails.

        `is_nested`: it stands in the arguments of another, and has no keys beside `type` and `args`.
        """
        kind = KINDS[kind_name] if not is_nested else replace(KINDS[kind_name], extras=None)
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
            check_methods(kind_name, target)
        except ConfigError as error:
            self.mistakes.extend(f"{where}.type: {mistake}" for mistake in error.mistakes)
            return None
        self._hint_at_args(where, own_keys, target, kind)
        taken = parameters(target)
        for required in kind.required:
            if required not in taken and not any(parameter.kind in VARIADIC for parameter in taken.values()):
                self.mistakes.append(f"{where}.type: {name} takes no {required}. Its constructor must.")
        bound = self.arguments(f"{where}.args", target, args, kind, is_factory)
        return Component(where, target, bound, kind, extras, is_factory)

    def _hint_at_args(self, where: str, own_keys: Iterable[str], target: Callable[..., Any], kind: Kind) -> None:
        """Say of an unknown key that is an argument where it belongs."""
        for key in own_keys:
            start = f"{below(where, key)}: unknown key."
            if key in own_parameters(target, kind):
                hint = f'{start} It is an argument of {target.__name__}: write it in "args".'
                self.mistakes[:] = [hint if mistake.startswith(start) else mistake for mistake in self.mistakes]

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
            key: self._option(below(where, key), values[key], schema, kinds[key])
            for key, schema in schemas.items()
            if key in values
        }
        missing = [item.name for item in fields(options) if item.default is MISSING and item.name not in values]
        self.mistakes.extend(
            f"{below(where, name)}: missing." for name in missing if not self._is_misspelt(where, name)
        )
        try:
            return None if missing else options(**values)
        except ConfigError as error:
            self.mistakes.extend(below(where, mistake) for mistake in error.mistakes)
            return None

    def resolved(self, config: Config) -> Config:
        """The config with its values as they were meant, and without secrets: it is there to be written."""
        config = copy.deepcopy(config)
        for where, text in self.texts.items():
            _put(config, where, text)
        config = redacted(config)
        for where, place in self.places.by_key.items():
            if place.is_secret:
                _put(config, where, REDACTED)
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
                self.mistakes.append(below(where, key) + f": unknown key. {closest(key, allowed)}")

    def _is_misspelt(self, where: str, name: str) -> bool:
        """Whether an unknown key was told to mean this one: then it is not missing, too."""
        start = f"{where}." if where else ""
        return any(m.startswith(start) and m.endswith(f" Closest match: {name}.") for m in self.mistakes)

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
                hint = _trainer_with(name) if kind is KINDS["trainer"] else ""
                hint = hint or closest(name, free)
                self.mistakes.append(f"{where}.{name}: {target.__name__} takes no such argument. {hint}")
                continue
            bound[name] = self._argument(f"{where}.{name}", value, free.get(name), kind.nested)
        for name, parameter in free.items():
            is_missing = parameter.default is inspect.Parameter.empty and name not in args and not may_lack
            if is_missing and not self._is_misspelt(where, name):
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
        except (ValueError, TypeError, RuntimeError):
            found = REDACTED if self.places.is_secret(where) else shown(value)
            self.mistakes.append(f"{where}: found {found}, of which no {parameter.annotation} can be made.")
            return bound

    def _bound(self, where: str, value: Any, schema: Schema, kind_name: str) -> Any:
        """Sections become components where an object is taken, in lists and objects, too; all else must fit."""
        choices = schema.get("anyOf", [schema])
        kind_name = next((choice["kind"] for choice in choices if "kind" in choice), kind_name)
        if kind_name and (nested := _as_section(value, choices)):
            return self.section(where, value, kind_name, is_nested=True, is_factory=nested == "factory")
        looked_into = choices if kind_name or len(choices) == 1 else []
        for choice in sorted(looked_into, key=lambda choice: not fits(choice, value)):  # the one that was meant, first
            if (parts := _parts(choice, value)) is not None:
                items = value.items() if isinstance(value, dict) else enumerate(value)
                bound = {key: self._bound(f"{where}.{key}", item, parts[key], kind_name) for key, item in items}
                return bound if isinstance(value, dict) else list(bound.values())
        if mistake := misfit(schema, value):
            hidden = mistake.replace(shown(value), REDACTED)
            self.mistakes.append(f"{where}: {hidden if self.places.is_secret(where) else mistake}")
        return value


def _trainer_with(option: str) -> str:
    """The end of an error message: which class of the project has this option, where there is one."""
    for trainers in catalogue(KINDS["trainer"]).values():
        for name, trainer in trainers.items():
            if option in own_parameters(trainer, KINDS["trainer"]):
                return f'{name} has it: write "type": "{name}".'
    return ""


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
