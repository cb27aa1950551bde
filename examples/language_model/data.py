"""English that every Python brings: the docstrings of its standard library, as blocks of characters."""

import ast
import sys
import sysconfig
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from base.base_dataset import BaseDataset
from utils.errors import ConfigError

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))  # of 96 characters; a token is a place in it
# Of the standard library, but not everywhere (Debian, slim images, Windows), or with little English for its size.
SKIPPED = {"distutils", "encodings", "ensurepip", "idlelib", "lib2to3", "msilib", "pydoc_data", "test", "tkinter"}
SKIPPED |= {"antigravity", "this", "turtle", "turtledemo"}
TESTS = {"test", "tests"}


class Docstrings(BaseDataset):
    """Blocks of `block_size` characters, each with what comes one character later: two int64 (block_size,).

    About 0.93 million characters for "train", 0.11 for "valid", 0.13 for "test", depending on the version of Python. A
    module with all its docstrings is in one split, and a paragraph that several modules have, in the first one's alone.
    All blocks are of one length: so a mean over blocks is one over characters.
    """

    def __init__(self, split: str, block_size: int = 64):
        super().__init__(split)
        tokens = encoded(texts()[split])
        count = (len(tokens) - 1) // block_size
        self.inputs = tokens[: count * block_size].view(count, block_size)
        self.targets = tokens[1 : count * block_size + 1].view(count, block_size)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.inputs[index], self.targets[index]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        index = torch.tensor(indices)
        return self.inputs.index_select(0, index), self.targets.index_select(0, index)

    def decode(self, inputs: Tensor) -> list[str]:
        """The characters of each block, for `python -m data_loader`."""
        return [decoded(tokens) for tokens in inputs]


def encoded(text: str) -> Tensor:
    """Tokens (characters,), int64; what is not in the alphabet is a question mark."""
    places = {character: place for place, character in enumerate(ALPHABET)}
    return torch.tensor([places.get(character, places["?"]) for character in text])


def decoded(tokens: Tensor) -> str:
    return "".join(ALPHABET[token] for token in tokens.tolist())


@lru_cache(maxsize=1)
def texts() -> dict[str, str]:
    """The text of each split; in the same order on every machine.

    Raises:
        ConfigError: this Python came without its sources.
    """
    paragraphs: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    seen = {""}
    for module in sorted(name for name in sys.stdlib_module_names - SKIPPED if not name.startswith("_")):
        for paragraph in "\n\n".join(_docstrings_of(module)).split("\n\n"):
            words = " ".join(paragraph.split())
            if words not in seen:
                seen.add(words)
                paragraphs[_split_of(module)].append(paragraph)
    if not paragraphs["train"]:
        raise ConfigError(f"dataset: {sysconfig.get_path('stdlib')} has no sources of the standard library to read.")
    return {split: "\n\n".join(found) for split, found in paragraphs.items()}


def _split_of(module: str) -> str:
    """A function of the name, so that a module of another version of Python moves no other."""
    return {0: "valid", 1: "test"}.get(zlib.crc32(module.encode()) % 10, "train")


def _docstrings_of(module: str) -> Iterator[str]:
    folder = Path(sysconfig.get_path("stdlib"))
    for path in [folder / f"{module}.py", *sorted((folder / module).rglob("*.py"))]:
        if path.is_file() and not TESTS & set(path.relative_to(folder).parts):
            yield from _docstrings_in(ast.parse(path.read_bytes()))


def _docstrings_in(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    if docstring := ast.get_docstring(node):
        yield docstring
    for inner in node.body:
        if isinstance(inner, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _docstrings_in(inner)
