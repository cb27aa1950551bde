"""Secrets in a config (tokens, passwords, keys, credentials in URLs): used, but written nowhere."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any

REDACTED = "<redacted>"
# Keys are compared as words with _ in between. These words make a key secret at any place in it ...
_ANYWHERE = r"(password|passwd|passphrase|passcode|secret|credential|pwd)s?|"
_ANYWHERE += r"(api|access|account|app|auth|encryption|license|master|private|secret|service|session|shared|signing|"
_ANYWHERE += r"ssh|subscription)_?keys?"
# ... and these only as the last ones.
_AT_END = r"tokens?|authorizations?|cookies?|session_?ids?|(^|_)(o_?auth2?|auth|bearer|creds?|jwts?|pass|pin|"
_AT_END += r"webhooks?(_url)?)"
_SECRET = re.compile(rf"({_ANYWHERE})\d*(_|$)|({_AT_END})(_?\d+|_values?)*$")
# What language models call tokens, passes over data, and what is about a secret.
_NO_SECRET = re.compile(
    r"(num|n|max|min|total|mean|per|count|new|extra|added|additional|vocab|input|output|prompt|visual|audio|video|"
    r"text|class|cls|dist|mask|pad|padding|unk|unknown|oov|bos|eos|sos|sot|eot|eod|sep|separator|special|start|begin|end|"
    r"stop|blank|prefix|suffix|ignore|ignored|banned|suppress|forced|register|query|memory|latent|learnable|context|"
    r"next|first|last|sub|word|char|byte|batch|sequence|newline|reserved)_?tokens?(_?\d+|_values?)*$|"
    r"(forward|backward|per|low|high|band|first|second|single|two|multi)_pass$|"
    r"(?<!webhook)_(file|path|dir|folder|url|uri|endpoint|env|var|variable|name|type|kind|method|mode|scheme|header|"
    r"field|column|length|len|size|count|dim|format|policy)$"
)
# The query of a signed URL: its signature, and what belongs to it and changes with it.
_SIGNED = re.compile(r"x-(amz|goog)-.*|(aws|google)access.*id|key-pair-id|policy|expires|sip|spr|srt|s[eprstv]|sk\w+")
_SIGNATURE = re.compile(r"(.*-)?(sig|signature|hmac|key)")
# The lookbehinds keep the time for a long word linear: a match begins at the beginning of a word.
_USER = re.compile(
    r"(?P<scheme>(?<![\w+.-])[\w+.-]+:/{1,2}|//)(?P<secret>[^\s/?#@:\"']*(?P<password>:(?!\d+([/?#]|$))[^\s\"']*)?)@(?=[\w.\[(-])"
)
_USER_WITHOUT_SCHEME = re.compile(r"(?!mailto:)(?P<secret>[\w.+%-]+:[^\s/:@\"']+)@([\w-]+[.:]\w|localhost|\w+\()")
_VALUE = r"""(?P<value>"(?:[^"\\]|\\.)*"|'[^']*'|[^\s"'&;]+)"""
_QUERY = re.compile(r"(?<=[?&#])(?P<name>[\w.-]+)=(?P<value>[^\s\"'&;]+)")
_PAIR = re.compile(rf"""(?<![\w.-])(?P<name>[\w.-]+)(?:["']\s*:|\s*=)\s*{_VALUE}""")
_LINE = re.compile(r"^[ \t-]*(?P<name>[\w.-]+)[ \t]*:[ \t]+(?P<value>\S.*?),?[ \t\r]*$", re.MULTILINE)
_BEARER = re.compile(r"\b[Bb]earer\s+(?P<value>[\w.~+/=-]{8,})")
_LITERAL = re.compile(r"\W*(true|false|null|none)?\W*", re.IGNORECASE)
_NAMES = (
    "token password passphrase passwd secret credentials api_key apikey access_key private_key bearer cookie".split()
)


def is_secret(key: str) -> bool:
    """Whether a key (snake_case, kebab-case or camelCase) is the name of a secret."""
    name = _words(key)
    return bool(_SECRET.search(name)) and not _NO_SECRET.search(name)


def _words(key: str) -> str:
    parts = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", key)
    return re.sub(r"[\W_]+", "_", parts).strip("_").lower()


def _is_misspelt(key: str) -> bool:
    """Whether a key is close to the name of a secret. A message about such a key does not quote its value."""
    name = _words(key)
    return bool(get_close_matches(name, _NAMES, 1, 0.75) or get_close_matches(name.split("_")[-1], _NAMES, 1, 0.75))


def holds_secret(key: str, value: Any) -> bool:
    """Whether the value under a key is a secret: true, false, null and "" are none, and a number under a plural
    (`tokens: 512`) is a count."""
    return is_secret(key) and _has_secret(value, _words(key).rstrip("_0123456789").endswith("s"))


def _has_secret(value: Any, is_plural: bool) -> bool:
    if isinstance(value, (dict, list)):
        return any(_has_secret(item, is_plural) for item in (value.values() if isinstance(value, dict) else value))
    if isinstance(value, (int, float)):
        return not isinstance(value, bool) and not is_plural
    return value not in (None, "")


def redacted(value: Any, key: str = "") -> Any:
    """A copy in which each secret reads `<redacted>`: what stands under a key such as `token`, and parts of texts."""
    if holds_secret(key, value):
        return REDACTED
    if isinstance(value, dict):
        return {
            redacted_text(name) if isinstance(name, str) else name: redacted(item, str(name))
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [redacted(item) for item in value]
    return redacted_text(value) if isinstance(value, str) else value


def redacted_text(text: str) -> str:
    """The text without credentials in URLs, and without the values in `token=VALUE`, `"token": "VALUE"`."""
    return _replaced(text, secret_spans(text))


def redacted_urls(text: str) -> str:
    """The text without credentials in URLs."""
    return _replaced(text, _spans_in_urls(text))


def _replaced(text: str, spans: Iterator[tuple[int, int]]) -> str:
    found, end = [], 0
    for start, stop in sorted(spans):
        if start >= end:
            found += [text[end:start], REDACTED]
        end = max(end, stop)
    return "".join([*found, text[end:]])


def secret_spans(text: str) -> Iterator[tuple[int, int]]:
    """Where in a text there are secrets."""
    yield from _spans_in_urls(text)
    for pattern in (_PAIR, _LINE):
        for match in pattern.finditer(text):
            if any(map(is_secret, match["name"].split("."))) and not _is_no_value(match["name"], match["value"]):
                is_quoted = match["value"][0] in "\"'" and match["value"][-1] == match["value"][0]
                yield match.start("value") + is_quoted, match.end("value") - is_quoted
    yield from (match.span("value") for match in _BEARER.finditer(text))


def _is_no_value(name: str, text: str) -> bool:
    return bool(_LITERAL.fullmatch(text)) or (is_secret(name) and not holds_secret(name, _parsed(text)))


def _spans_in_urls(text: str) -> Iterator[tuple[int, int]]:
    for match in _USER.finditer(text):
        if match["password"] or (match["secret"] and re.search("https?:", match["scheme"].lower())):
            yield match.span("secret")
    if bare := _USER_WITHOUT_SCHEME.match(text):
        yield bare.span("secret")
    queries = list(_QUERY.finditer(text))
    names = [match["name"].lower() for match in queries]
    is_signed = any(map(_SIGNATURE.fullmatch, names))
    for match, name in zip(queries, names, strict=True):
        if _SIGNATURE.fullmatch(name) or is_secret(name) or (is_signed and _SIGNED.fullmatch(name)):
            yield match.span("value")


def redacted_arguments(arguments: Sequence[str], is_message: bool = False) -> list[str]:
    """A command line without secrets: the values of `KEY=VALUE` and of options, JSON in such a VALUE, parts of URLs.

    `is_message`: also without the values of keys that are close to the name of a secret.
    """
    shown, is_value = [], False

    def is_hidden(key: str) -> bool:
        return is_secret(key) or (is_message and _is_misspelt(key))

    for argument in arguments:
        shown.append(REDACTED if is_value else _redacted_argument(argument, is_hidden))
        key = argument.rstrip("=: ")  # of `token= VALUE`, and of `token = VALUE`
        names_one = argument.startswith("-") or "." in key or key != argument
        is_value = (is_value and not key) or (names_one and any(map(is_hidden, key.split("."))))
    return shown


def _redacted_argument(argument: str, is_hidden: Callable[[str], bool]) -> str:
    key, sign, text = re.fullmatch(r"([^=:/{\[\"]*)([=:]?)(.*)", argument, re.DOTALL).groups()  # type: ignore[union-attr]
    if sign and key.startswith("-"):  # --set=KEY=VALUE
        inner = REDACTED if is_hidden(key) else _redacted_argument(text, is_hidden)
        return f"{key}{sign}{inner}"
    value = _parsed(text)
    for part in key.split(".") if sign else ():
        if is_hidden(part) and (not is_secret(part) or holds_secret(part, value)):
            return f"{key}{sign}{REDACTED}"
    if sign and isinstance(value, (dict, list)):
        return argument if (shown := redacted(value)) == value else f"{key}{sign}{json.dumps(shown)}"
    return f"{key}={redacted_text(text)}" if sign == "=" else redacted_text(argument)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def missing_secrets(value: Any, where: str = "") -> list[str]:
    """A line for each secret that a saved config has left out, and that must be given again."""
    if isinstance(value, dict) and not any(REDACTED in str(key) for key in value):
        return [line for key, item in value.items() for line in missing_secrets(item, f"{where}.{key}".lstrip("."))]
    if isinstance(value, list):
        return [line for i, item in enumerate(value) for line in missing_secrets(item, f"{where}.{i}")]
    if not isinstance(value, (str, dict)) or (isinstance(value, str) and REDACTED not in value):
        return []
    what = "a secret" if value == REDACTED else "has a secret in it"
    return [f"{where}: {what}, which no file keeps. Give it again: --set {where}=..."]
