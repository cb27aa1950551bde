"""What a weighted sampler does for rare classes: 30 runs, the table of the README and its plot.

python -m examples.streaming.compare
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

from examples.commands import parser, scored, trained
from examples.packages import needed
from examples.pages import markdown_table, mean_and_spread, picture
from examples.streaming.imbalanced import ThinnedDigits
from utils.exit_codes import exit_code_of

HERE = Path(__file__).resolve().parent
CHOICES = {
    "shuffling": "data_loader.sampler=null",
    "`power` 0.5": "data_loader.sampler.args.power=0.5",
    "`power` 1": "data_loader.sampler.args.power=1",
}
COLUMNS = {"macro recall": range(10), "of 0, 1, 2": (0, 1, 2), "of 7, 8, 9": (7, 8, 9)}
SEEDS = range(10)
Recalls = list[float]  # by class


def main(argv: list[str] | None = None) -> None:
    parser(__doc__).parse_args(argv)
    needed("matplotlib")  # asked for now, and not after all the runs
    found = {choice: [recalls([setting, f"seed={seed}"]) for seed in SEEDS] for choice, setting in CHOICES.items()}
    rows = []
    for choice, runs in found.items():
        means = [[mean(run[target] for target in targets) for run in runs] for targets in COLUMNS.values()]
        rows.append([choice, *map(mean_and_spread, means)])
    print(markdown_table(["drawn by", *COLUMNS], rows))
    draw(found, HERE / "recall.png")


def recalls(settings: Iterable[str]) -> Recalls:
    """On the test set, of a run of its own."""
    each = [_recall_of([target], f"recall_{target}") for target in range(10)]
    metrics = json.dumps([_recall_of(None, "macro_recall"), *each])
    with TemporaryDirectory() as folder:
        values = scored(trained(str(HERE / "imbalanced.json"), Path(folder), [f"metrics={metrics}", *settings]))
    return [values[f"recall_{target}"] for target in range(10)]


def _recall_of(classes: list[int] | None, name: str) -> dict[str, object]:
    args = {"num_classes": 10, "classes": classes}
    return {"type": "examples.streaming.metric.MacroRecall", "args": args, "name": name}


def draw(found: dict[str, list[Recalls]], path: Path) -> None:
    counts = ThinnedDigits("train").targets.bincount().tolist()
    with picture(path, size=(6, 3.2)) as axes:
        for choice, runs in found.items():
            axes.plot([mean(run[target] for run in runs) for target in range(10)], "o-", label=choice.replace("`", ""))
        axes.set_xticks(range(10), [f"{target}\n{count}" for target, count in enumerate(counts)])
        axes.set(xlabel="digit, and its training samples", ylabel="recall, mean of 10 runs", ylim=(0, 1.02))
        axes.legend()
        axes.grid(alpha=0.3)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
