"""Secrets in a config (tokens, passwords, keys): used, but written nowhere."""

import json
import re
from collections.abc import Sequence
from typing import Any

REDACTED = "<redacted>"
_SECRET = re.compile(r"(token|password|passwd|passphrase|secret|credentials?|(api|access|private|secret)_?key)$")
# What language models call tokens, which are no secrets.
_NO_SECRET = re.compile(r"(pad|unk|bos|eos|sos|mask|sep|cls|special|start|end|stop|blank|prefix|suffix)_?token$")


def redacted(value: Any, key: str = "") -> Any:
    """A copy in which whatever stands under a key such as `token`, `password` or `api_key` reads `<redacted>`."""
    if is_secret(key) and value is not None:
        return REDACTED
    if isinstance(value, dict):
        return {name: redacted(item, str(name)) for name, item in value.items()}
    if isinstance(value, list):
        return [redacted(item) for item in value]
    return value


def is_secret(key: str) -> bool:
    name = key.lower().replace("-", "_")
    return bool(_SECRET.search(name)) and not _NO_SECRET.search(name)


def redacted_arguments(arguments: Sequence[str]) -> list[str]:
    """A command line without the values of secrets, as `KEY=VALUE`, as JSON in such a VALUE, or behind an option."""
    shown, is_value = [], False
    for argument in arguments:
        shown.append(REDACTED if is_value else _redacted_argument(argument))
        is_value = argument.startswith("-") and "=" not in argument and is_secret(argument)
    return shown


def _redacted_argument(argument: str) -> str:
    key, equals, text = argument.partition("=")
    if not equals:
        return argument
    if any(is_secret(part) for part in key.split(".")):
        return f"{key}={REDACTED}"
    try:
        value = json.loads(text)
        shown = redacted(value)
    except (ValueError, RecursionError):
        return argument
    return argument if shown == value else f"{key}={json.dumps(shown)}"


def missing_secrets(value: Any, where: str = "") -> list[str]:
    """A line for each secret that a saved config has left out, and that must be given again."""
    if isinstance(value, dict):
        return [line for key, item in value.items() for line in missing_secrets(item, f"{where}.{key}".lstrip("."))]
    if isinstance(value, list):
        return [line for i, item in enumerate(value) for line in missing_secrets(item, f"{where}.{i}")]
    return [f"{where}: a secret, which no file keeps. Give it again: --set {where}=..."] if value == REDACTED else []
