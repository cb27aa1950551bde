"""Text that every Python installation brings: the functions of its standard library, by the family of their module."""

import ast
import re
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from utils.errors import UserError

FAMILIES = {  # and their packages
    "asyncio": ("asyncio",),
    "email": ("email",),
    "importlib": ("importlib",),
    "markup": ("xml", "html"),
    "processes": ("multiprocessing", "concurrent"),
    "unittest": ("unittest",),
    "web": ("http", "urllib", "wsgiref", "xmlrpc"),
}
SHARES = {"train": 0.7, "valid": 0.15, "test": 0.15}
LEAST_LINES = 4  # of a function
NOT_READ = {"test", "tests"}  # folders that slim installations leave out

_NAMES = "|".join(["wsgi", *(package for packages in FAMILIES.values() for package in packages)])
_HINTS = re.compile(
    rf"^[ \t]*(?:from\s+\S+\s+)?import\s+(?:\([^)]*\)|.*)$|\b\w*(?:{_NAMES})\w*", re.IGNORECASE | re.MULTILINE
)


class Sample(NamedTuple):
    """The source of a function, the number of its family, and the file that it is from."""

    text: str
    family: int
    file: str


@lru_cache(maxsize=1)
def read_corpus() -> dict[str, list[Sample]]:
    """The samples by split, each in an order that tells nothing. Those of one file are in one split; a text that occurs
    twice is there once.

    Raises:
        UserError: this Python has come without the sources of its library.
    """
    seen: set[str] = set()
    splits: dict[str, list[Sample]] = {split: [] for split in SHARES}
    for number, packages in enumerate(FAMILIES.values()):
        files = [list(_samples(path, number, seen)) for package in packages for path in _sources(package)]
        for split, samples in _dealt([samples for samples in files if samples]).items():
            splits[split] += samples
    return {split: sorted(samples, key=lambda sample: _digest(sample.text)) for split, samples in splits.items()}


def _sources(package: str) -> list[Path]:
    folder = Path(sysconfig.get_path("stdlib")) / package
    found = [path for path in sorted(folder.rglob("*.py")) if not NOT_READ & set(path.relative_to(folder).parts)]
    if not found:
        raise UserError(f"{folder}: no Python sources, of which this example makes its data set.")
    return found


def _samples(path: Path, family: int, seen: set[str]) -> Iterator[Sample]:
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines(keepends=True)
    for function in _functions(ast.parse(source)):
        text = without_hints("".join(lines[function.lineno - 1 : function.end_lineno]))
        if len(text.splitlines()) >= LEAST_LINES and text not in seen:
            seen.add(text)
            yield Sample(text, family, f"{path.parent.name}/{path.name}")


def _functions(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions and methods; those within others are a part of their text."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield child
        elif isinstance(child, ast.stmt):
            yield from _functions(child)


def without_hints(text: str) -> str:
    """The text without imports, and without each word that has the name of one of the packages in it."""
    return _HINTS.sub("", text)


def _dealt(files: list[list[Sample]]) -> dict[str, list[Sample]]:
    """Files to splits: the largest first, each to the split that lacks most of its share of the samples."""
    total = sum(map(len, files))
    splits: dict[str, list[Sample]] = {split: [] for split in SHARES}
    for samples in sorted(files, key=lambda samples: (-len(samples), _digest(samples[0].file))):
        neediest = max(SHARES, key=lambda split: SHARES[split] - len(splits[split]) / total)
        splits[neediest] += samples
    return splits


def _digest(text: str) -> bytes:
    return sha256(text.encode()).digest()
