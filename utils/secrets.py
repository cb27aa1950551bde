"""Secrets in a config (tokens, passwords, keys): used, but written nowhere."""

import re
from typing import Any

REDACTED = "<redacted>"
_SECRET = re.compile(r"(token|password|passwd|passphrase|secret|credentials?|(api|access|private|secret)_?key)$")
# What language models call tokens, which are no secrets.
_NO_SECRET = re.compile(r"(pad|unk|bos|eos|sos|mask|sep|cls|special|start|end|stop|blank|prefix|suffix)_?token$")


def redacted(value: Any, key: str = "") -> Any:
    """A copy in which every text under a key such as `token`, `password` or `api_key` reads `<redacted>`."""
    if isinstance(value, dict):
        return {name: redacted(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [redacted(item, key) for item in value]
    return REDACTED if isinstance(value, str) and is_secret(key) else value


def is_secret(key: str) -> bool:
    name = key.lower().replace("-", "_")
    return bool(_SECRET.search(name)) and not _NO_SECRET.search(name)


def redacted_arguments(arguments: list[str]) -> list[str]:
    """A command line in which the VALUE of a secret's KEY=VALUE is left out."""
    return [
        f"{key}={REDACTED}" if equals and is_secret(key.rpartition(".")[2]) else argument
        for argument in arguments
        for key, equals, _ in [argument.partition("=")]
    ]


def missing_secrets(value: Any, where: str = "") -> list[str]:
    """A line for each secret that a saved config has left out, and that must be given again."""
    if isinstance(value, dict):
        return [line for key, item in value.items() for line in missing_secrets(item, f"{where}.{key}".lstrip("."))]
    if isinstance(value, list):
        return [line for i, item in enumerate(value) for line in missing_secrets(item, f"{where}.{i}")]
    return [f"{where}: a secret, which no file keeps. Give it again: --set {where}=..."] if value == REDACTED else []
