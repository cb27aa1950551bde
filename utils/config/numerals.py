"""Numbers in YAML, behind `--set` and in the environment: as in JSON, and `.5`, `5.`, `+5`; and limits of configs."""

import re

_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)")
MOST_DEPTH = 50  # of a config
MOST_FIGURES = 20  # of a whole number of 64 bits, with its sign
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def number_in(text: str) -> int | float | None:
    """The number that a text is, perhaps an infinite one; None where it is none: `010`, `1_000` and `0x1F` are text."""
    return float_or_whole(text) if _WHOLE.fullmatch(text) or _NUMBER.fullmatch(text) else None


def float_or_whole(text: str) -> int | float:
    """The value of a numeral: an int if it fits in 64 bits, as torch and Python's loops need it; else a float, which
    may be infinite."""
    if _WHOLE.fullmatch(text) and len(text) <= MOST_FIGURES and abs(number := int(text)) < 2**63:
        return number
    return float(text)


def not_finite(key: str, token: str) -> str:
    return f"{key}: {token[:40]}{'...' * (len(token) > 40)} is not finite. Write a finite number, or null."
