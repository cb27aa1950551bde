"""What an annotation admits of what a config can say, and what the code gets of it."""

import enum
import numbers
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NewType, Optional, TypeVar, Union

import pytest
import torch
from torch import nn

from utils.config.schemas import converted, described, fits, misfit, schema_of


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (int, [0, -3], [1.0, "1", True, None, [1]]),
        (float, [0, 1.5], ["1", False, None]),
        (bool, [True], [0, "true", None]),
        (str, ["", "a"], [1, None, ["a"]]),
        (int | None, [1, None], [1.5, "null"]),
        (Optional[str], ["a", None], [1]),  # noqa: UP045 - libraries write it so
        (Union[int, list[int]], [1, [1, 2]], ["1", [1.5], [None]]),  # noqa: UP007
        (list[str], [[], ["a"]], ["a", [1]]),
        (Sequence[float], [[1, 2.5]], [["a"], {"a": 1}]),
        (tuple[int, int], [[1, 2]], [[1], [1, 2, 3], [1, "2"], 1]),
        (tuple[int, ...], [[], [1, 2]], [["a"]]),
        (dict[str, int], [{}, {"a": 1}], [{"a": "b"}, [1]]),
        (Literal["a", 1], ["a", 1], ["b", True, 2]),
        (Colour, ["red"], ["RED", "green", 1]),
        (Path, ["a/b"], [1]),
        (torch.dtype, ["float32"], ["float33", 32]),
        (torch.Tensor | None, [[1.0, 2.0], None], [1.0, "a"]),
        (float | torch.Tensor, [0.1], ["0.1", [0.1]]),
        (Any, [1, "a", None, [], {}], []),
        ("a string", [1, "a"], []),
        (numbers.Number | list[int], [1, 0.5, [1]], ["1"]),
        (Final[int], [1], ["1"]),
        (Annotated[int, ["unit"]], [1], ["1"]),
        (NewType("Size", int), [1], ["1"]),
        (TypeVar("T", int, float), [1, 0.5], ["1"]),
        (frozenset[int], [[1]], [["a"], 1]),
        (list[int] | list[str], [[1], ["a"]], [[1.5], "a"]),
        (complex, [1, "a"], []),
        (nn.Module, ["ReLU", {"type": "ReLU"}], [1, ["ReLU"], {}]),
    ],
    ids=str,
)
def test_what_an_annotation_admits(annotation, good, bad):
    schema = schema_of(annotation)
    assert [value for value in good if not fits(schema, value)] == []
    assert [value for value in bad if fits(schema, value)] == []
    assert all(misfit(schema, value).startswith("found ") for value in bad)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int | None, "a whole number or null"),
        (tuple[int, float], "a list of 2: a whole number, a number"),
        (list[str] | str, "a list, each text or text"),
        (Literal["min", "max"], "min, max"),
        (Any, "anything"),
    ],
)
def test_it_is_said_in_words(annotation, words):
    assert described(schema_of(annotation)) == words


@pytest.mark.parametrize(
    ("annotation", "value", "result"),
    [
        (tuple[int, int], [1, 2], (1, 2)),
        (tuple[float, tuple[int, int]] | None, [1, [2, 3]], (1, (2, 3))),
        (list[tuple[int, int]], [[1, 2]], [(1, 2)]),
        (Colour | int, "red", Colour.RED),
        (torch.dtype, "bfloat16", torch.bfloat16),
        (torch.device, "cpu", torch.device("cpu")),
        (Path, "a", Path("a")),
        (Sequence[int], [1], [1]),
        (tuple[int, ...], [1, 2, 3], (1, 2, 3)),
        (set[int], [1, 1], {1}),
        (dict[str, tuple[int, int]], {"a": [1, 2]}, {"a": (1, 2)}),
        (str, "red", "red"),
        (Any, [1], [1]),
    ],
)
def test_plain_values_become_what_the_annotation_says(annotation, value, result):
    assert converted(annotation, value) == result
