"""The classes of the splits must have the same numbers: else a model is scored on other classes than it learned."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch.utils.data import Subset

from utils.errors import ConfigError
from utils.paths import shown_path

_JUNK = ("__MACOSX", ".ipynb_checkpoints", ".DS_Store", ".git")  # what programs leave in folders


def check_classes(datasets: Mapping[str, Any], build: Callable[..., Any]) -> None:
    """Compare `class_to_idx` or `classes` of the splits. Another split may lack classes of "train": the numbers of the
    ones that it has are what counts. Where "train" is not among the splits, `build(split="train")` makes it.

    Raises:
        ConfigError: a class has another number than in "train", or none there; or it is a hidden folder.
    """
    numbers = {split: _numbers(dataset) for split, dataset in datasets.items()}
    for split, dataset in datasets.items():
        for name in numbers[split]:
            _check_name(str(name), split, dataset)
    if "train" not in numbers and any(numbers.values()):
        with suppress(Exception):  # training samples may be on another machine, and scoring does not need them
            numbers["train"] = _numbers(build(split="train"))
    expected = numbers.get("train", {})
    for split, found in numbers.items():
        for name, number in found.items() if expected else ():
            if expected.get(name) != number:
                of_train = f"number {expected[name]}" if name in expected else "no class"
                raise ConfigError(
                    f"dataset: class {name!r} is number {number} in {split} and {of_train} in train. Number the "
                    "classes in all splits as in train (a class for each folder: the same folders in both)."
                )


def _numbers(dataset: Any) -> dict[Any, int]:
    """The number of each class; empty where the data set does not name classes."""
    while isinstance(dataset, Subset) and not hasattr(dataset, "classes") and not hasattr(dataset, "class_to_idx"):
        dataset = dataset.dataset
    numbers, names = getattr(dataset, "class_to_idx", None), getattr(dataset, "classes", ())
    if isinstance(numbers, dict):
        return numbers
    names = names.tolist() if hasattr(names, "tolist") else names
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, (str, int)) for name in names):
        return {}
    if len(set(names)) != len(names):  # one name for each sample, not for each class
        return {}
    return {name: number for number, name in enumerate(names)}


def _check_name(name: str, split: str, dataset: Any) -> None:
    """A class may be called ".net"; a folder of that kind is none."""
    if not name.startswith((".", "__MACOSX")):
        return
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    roots = [Path(value) for value in vars(dataset).values() if isinstance(value, (str, Path))]
    folder = next((root / name for root in roots if (root / name).exists()), None)
    if folder or name in _JUNK:
        what = f"the folder {shown_path(folder)}" if folder else "that folder"
        raise ConfigError(f"dataset: {split} has a class {name!r}, which is a hidden folder. Delete {what}.")
