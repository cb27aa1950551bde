"""What counts as a number in YAML, behind `--set` and in the environment: JSON's, and `.5`, `5.`, `+5`."""

import re

_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def number_in(text: str) -> int | float | None:
    """The number that a text is, perhaps an infinite one; None where it is none: `010`, `1_000` and `0x1F` are text."""
    if _WHOLE.fullmatch(text) and len(text) < 1000:
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else None
