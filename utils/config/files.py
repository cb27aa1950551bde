"""Reading one config file, JSON or YAML: its values, and the line of each."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from utils.config.numerals import MOST_DEPTH, float_or_whole, not_finite, number_in
from utils.config.places import Place, Places
from utils.errors import ConfigError, UserError
from utils.known_secrets import hidden, remember_in_text
from utils.paths import shown_path

MOST_BYTES = 1_000_000
_WORD, _WORD_END = re.compile(r"[^\s{}\[\]:,\"]*"), re.compile(r"[^\s{}\[\]:,\"]*\Z")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')


def read_config_file(path: Path) -> tuple[dict[str, Any], Places]:
    """The object that a file holds; `.yaml` and `.yml` are YAML, all others JSON.

    Raises:
        UserError: the file is missing, unreadable or too large, is not of its format, or does not hold an object.
    """
    source = shown_path(path)
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UserError(f"{source}: is no config: larger than {MOST_BYTES:,} bytes.")
        text = content.decode(json.detect_encoding(content))  # PowerShell writes UTF-16
    except FileNotFoundError:
        raise UserError(f"{source}: no such config file. Working directory: {Path.cwd()}.") from None
    except IsADirectoryError:
        inside = [shown_path(found) for found in sorted(path.glob("*.json"))]
        hint = f" In it: {', '.join(inside)}." if inside else ""
        raise UserError(f"{source}: is a folder, not a config file.{hint}") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        reason = f"its bytes are not {error.encoding.upper()}. Save it as UTF-8"
        raise UserError(f"{source}:{line}: cannot be read as a config: {reason}.") from None
    except OSError as error:
        raise UserError(f"{source}: cannot be read as a config: {error}.") from None
    remember_in_text(text)  # no message about it quotes a secret, even if it cannot be parsed
    if path.suffix.lower() in (".yaml", ".yml"):
        from utils.config.yaml_files import parse_yaml  # a JSON config needs no PyYAML

        config, lines, mistakes = parse_yaml(text, source)
    else:
        config, lines, mistakes = parse_json(text, source)
    if mistakes:
        raise ConfigError(*(f"{source}:{line}: {mistake}" for line, mistake in mistakes))
    if not isinstance(config, dict):
        raise ConfigError(f"{source}:1: a config is an object {{...}}, found {type(config).__name__}.")
    return config, Places({key: Place(f"{source}:{line}") for key, line in lines.items()})


def parse_json(text: str, source: str) -> tuple[Any, dict[str, int], list[tuple[int, str]]]:
    """The value; the line of each dotted key; and mistakes with their lines."""
    too_deep = f"{source}: nested too deeply: a config has at most {MOST_DEPTH} levels."
    try:
        value = json.loads(text, parse_int=float_or_whole)
    except json.JSONDecodeError as error:
        raise ConfigError(_json_mistake(text, source, error)) from None
    except RecursionError:
        raise ConfigError(too_deep) from None
    lines: dict[tuple[str | int, ...], int] = {(): 1}
    mistakes, twice = [], set()
    for path, line, token in _tokens(text):
        key = ".".join(map(str, path))
        if len(path) > MOST_DEPTH:
            raise ConfigError(too_deep)
        if token is None and path in lines:
            if not any(path[:length] in twice for length in range(len(path))):  # what is below one stands there twice
                mistakes.append((line, f"{key}: stands twice in one object, first in line {lines[path]}."))
            twice.add(path)
        else:
            lines.setdefault(path, line)
        if token is not None and not _is_finite(token):
            mistakes.append((line, not_finite(key, token)))
    return value, {".".join(map(str, path)): line for path, line in lines.items()}, mistakes


def _json_mistake(text: str, source: str, error: json.JSONDecodeError) -> str:
    """What is wrong, in words of ours where Python's are not the same in each version, or do not help."""
    position, message, before = error.pos, error.msg, text[: error.pos].rstrip()
    is_of_value = message.startswith(("Expecting value", "Expecting ',' delimiter"))
    start = error.pos - len(_WORD_END.search(text[: error.pos])[0])  # type: ignore[index]
    word = _WORD.match(text, start)[0]  # type: ignore[index]
    if re.match(r",?\s*[}\]]", text[error.pos :]) and text[len(before) - 1 : error.pos + 1].strip()[0] == ",":
        position = error.pos if text[error.pos] == "," else len(before) - 1
        message = "a comma stands before the closing bracket"
    elif re.match(r"//|#|/\*", text[error.pos :]):
        message = "there are no comments in JSON; YAML has them"
    elif not text.strip():
        message = "the file is empty"
    elif is_of_value and word and (start < error.pos or message.startswith("Expecting value")):
        position, message = start, _as_json_has_it(word)
    elif message.startswith("Expecting value"):
        message = "a value is missing"
    elif is_of_value:
        is_line_end = "\n" in text[len(before) : error.pos]
        position, message = len(before), f"a comma is missing{' at the end of this line' * is_line_end}"
    place = json.JSONDecodeError("", text, position)
    return f"{source}:{place.lineno}:{place.colno}: not JSON: {message}."


def _as_json_has_it(word: str) -> str:
    """What to write instead of a word that is not a JSON value."""
    if (literal := {"none": "null"}.get(word.lower(), word.lower())) in ("true", "false", "null"):
        return f"{word} is not a value. Write {literal}"
    if (number := number_in(word)) is not None and math.isfinite(number):
        return f"{word} is not a number. Write {json.dumps(number)}"
    return f"{hidden(word)[:40]} is not a value. Write text in double quotes, and numbers such as 10 or 0.5"


def _tokens(text: str) -> Iterator[tuple[tuple[str | int, ...], int, str | None]]:
    """Each key and value of valid JSON: its path and line; and the value's first token, None for a key."""
    path: list[str | int | None] = []  # for each open container the key or index under way
    is_array: list[bool] = []
    line, position = 1, 0
    for match in _TOKEN.finditer(text):
        found = match[0]
        line, position = line + text.count("\n", position, match.start()), match.start()
        if found in ("}", "]"):
            path.pop()
            is_array.pop()
        elif found == ",":
            path[-1] = path[-1] + 1 if is_array[-1] else None  # type: ignore[operator]
        elif found == ":":
            continue
        elif path and path[-1] is None and not is_array[-1]:
            path[-1] = json.loads(found)
            yield tuple(path), line, None  # type: ignore[arg-type]
        else:
            yield tuple(path), line, found  # type: ignore[arg-type]
            if found in ("{", "["):
                path.append(0 if found == "[" else None)
                is_array.append(found == "[")


def _is_finite(token: str) -> bool:
    """Whether a token is no number, or one that fits into a float: json reads NaN, Infinity and 1e999, too."""
    try:
        return math.isfinite(float(token)) or token.startswith('"')
    except ValueError:
        return True
