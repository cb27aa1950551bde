"""The secrets that this command has been given, so that no message quotes them, whoever wrote the message."""

import json
import re
from typing import Any
from urllib.parse import quote, unquote

from utils.secrets import REDACTED, holds_secret, redacted_urls, secret_spans

MOST_ITEMS = 100  # of a list of secrets; a longer one holds words, not secrets
_known: set[str] = set()


def forget() -> None:
    """A command begins, and knows no secrets."""
    _known.clear()


def remember(value: Any, key: str = "") -> None:
    """Remember the secrets in a part of a config. `key`: what it stands under."""
    if holds_secret(key, value):
        remember_all(value)
    elif isinstance(value, dict):
        for name, item in value.items():
            remember_in_text(str(name))
            remember(item, str(name))
    elif isinstance(value, list):
        for item in value:
            remember(item)
    elif isinstance(value, str):
        remember_in_text(value)


def remember_in_text(text: str) -> None:
    """Remember the secrets in a text, such as credentials in a URL, or a config that may not be readable."""
    for start, end in secret_spans(text):
        found = text[start:end]
        for part in (found, *re.split(r"\s+#", found)[:1], *found.partition(":")[2:]):
            remember_all(part.strip("\"'!*&,[]{} "))


def remember_all(value: Any) -> None:
    """Remember every text and number in a value."""
    if isinstance(value, (dict, list)):
        if len(value) <= MOST_ITEMS:
            for item in value.values() if isinstance(value, dict) else value:
                remember_all(item)
    elif value is not None and not isinstance(value, bool) and REDACTED not in str(value):
        text = str(value)
        lines = [line for line in text.splitlines() if len(line) >= 8]
        _known.update(filter(None, (text, *lines, *re.findall(r"(?i)^(?:bearer|basic|token)\s+(\S+)$", text))))


def hidden(text: str) -> str:
    """A message without the secrets that are known. Of one or two characters, they are replaced in quotes only; up to
    seven, where they are a whole word."""
    text = redacted_urls(text)
    for secret in sorted(_known, key=len, reverse=True):
        forms = (secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], " ".join(secret.split()), unquote(secret))
        for form in filter(None, dict.fromkeys((*forms, quote(secret), quote(secret, safe="")))):
            text = re.sub(_pattern(form), REDACTED, text)
    return text


def _pattern(secret: str) -> str:
    escaped = re.escape(secret)
    if len(secret) < 3:
        return rf"(?<=['\"]){escaped}(?=['\"])"
    return escaped if len(secret) >= 8 else rf"(?<!\w){escaped}(?!\w)"
