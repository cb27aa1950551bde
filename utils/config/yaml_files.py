"""YAML with its traps closed: what a value is, it is in JSON, too.

Of YAML 1.1, `off` is not false, 010 not 8, 1:30 not 90, 2026-01-02 no date, and 1e-3 no text: here only what JSON
knows is more than text (YAML 1.2 calls that the core schema). Tags are refused, so nothing is ever constructed.
"""

import math
import re
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from utils.config.numerals import MOST_DEPTH, not_finite, number_in
from utils.errors import ConfigError

MOST_NODES = 20_000  # after each alias has been replaced by what it stands for
_WORDS = {"null": None, "~": None, "": None, "true": True, "false": False}
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_STANDARD = "tag:yaml.org,2002:"
_STANDARD_TAG = re.compile(rf"{re.escape(_STANDARD)}(str|int|float|bool|null|seq|map|merge|timestamp|value)")


def parse_yaml(text: str, source: str) -> tuple[Any, dict[str, int], list[tuple[int, str]]]:
    """As `parse_json`."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(f"{where}: not YAML: {problem}.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not YAML: {' '.join(str(error).split())}.") from None
    except RecursionError:
        raise ConfigError(f"{source}: nested too deeply: a config has at most {MOST_DEPTH} levels.") from None
    reader = _Reader(source)
    return (reader.value(root, ()) if root else None), reader.lines, reader.mistakes


class _Reader:
    """Turns nodes into plain values."""

    def __init__(self, source: str):
        self.source = source
        self.lines = {"": 1}
        self.mistakes: list[tuple[int, str]] = []
        self.nodes = 0

    def value(self, node: Node, path: tuple[str | int, ...]) -> Any:
        self.nodes += 1
        if len(path) > MOST_DEPTH or self.nodes > MOST_NODES:
            what = f"nested too deeply: a config has at most {MOST_DEPTH} levels"
            much = f"unfolds to more than {MOST_NODES:,} values"
            raise ConfigError(f"{self.source}: {what if len(path) > MOST_DEPTH else much}.")
        line, key = node.start_mark.line + 1, ".".join(map(str, path))
        self.lines.setdefault(key, line)
        if not _STANDARD_TAG.fullmatch(node.tag):
            self.mistakes.append(
                (
                    line,
                    f"{key}: the tag {node.tag.replace(_STANDARD, '!!')} is not read. Write a plain value.".lstrip(
                        ": "
                    ),
                )
            )
            return None
        if isinstance(node, ScalarNode):
            return self.scalar(node, line, key)
        if isinstance(node, MappingNode):
            return self.mapping(node, path)
        return [self.value(item, (*path, i)) for i, item in enumerate(node.value)]

    def mapping(self, node: MappingNode, path: tuple[str | int, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, ScalarNode) or key_node.value == "<<":
                what = "merge keys are" if isinstance(key_node, ScalarNode) else "keys that are no text are"
                self.mistakes.append((line, f'{what} not read. Write the keys out, or "extends" another file.'))
                continue
            name = key_node.value
            key = ".".join(map(str, (*path, name)))
            if name in found:
                self.mistakes.append((line, f"{key}: stands twice in one object, first in line {self.lines[key]}."))
            self.lines.setdefault(key, line)
            found[name] = self.value(value_node, (*path, name))
        return found

    def scalar(self, node: ScalarNode, line: int, key: str) -> Any:
        text = node.value
        if node.style is not None:  # in quotes, or a block
            return text
        if text.lower() in _WORDS and text in (text.lower(), text.title(), text.upper()):
            return _WORDS[text.lower()]
        number = math.inf if _INFINITE.fullmatch(text) else number_in(text)
        if number is not None and not math.isfinite(number):
            self.mistakes.append((line, not_finite(key, text)))
            return None
        return text if number is None else number
