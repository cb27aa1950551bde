"""What the pages of the examples are made of: tables, pictures, and the epochs of a run."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from examples.packages import needed
from utils.errors import UserError


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """The standard deviation is that of a sample (n - 1); 0 of one value."""
    return mean(values), stdev(values) if len(values) > 1 else 0.0


def mean_and_spread(values: Sequence[float], form: str = ".3f", deviation_form: str = ".3f") -> str:
    """Both in words. The forms are those of `format`."""
    average, deviation = mean_and_deviation(values)
    return f"{average:{form}} ± {deviation:{deviation_form}}"


def epochs_of(run_dir: Path, name: str = "loss") -> list[dict[str, Any]]:
    """The values of each epoch of a run, one of this name among them.

    Raises:
        UserError: that is no run directory, or one of another task.
    """
    try:
        epochs = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise UserError(f"{run_dir}: no run directory, such as saved/NAME/RUN_ID: {error}.") from error
    if not epochs or name not in epochs[0]:
        raise UserError(f"{run_dir}: has no epoch with a value named {name!r}: is it a run of this example?")
    return epochs


@contextmanager
def picture(path: Path, size: tuple[float, float], columns: int = 1) -> Iterator[Any]:
    """Axes of matplotlib to draw on, several where there are columns; written as a PNG at the end."""
    needed("matplotlib").use("Agg")
    pyplot = needed("matplotlib.pyplot")
    figure, axes = pyplot.subplots(1, columns, figsize=size, layout="tight")
    yield axes
    try:
        figure.savefig(path, dpi=100, metadata={"Software": None})
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error}.") from error
    finally:
        pyplot.close(figure)
