"""Fine-tuning against training from scratch, with few labels, over several seeds: a table and a plot.

    python -m examples.transfer_learning.compare

For each seed: a backbone of its own is trained on the digits 0 to 4; labels of 5 to 9 are drawn, the same ones for all
ways; each way trains on them, and its last checkpoint is scored on the whole test set of 5 to 9.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from examples.commands import parser, png, scored, trained
from examples.packages import needed
from examples.pages import markdown_table, mean_and_deviation, mean_and_spread, picture
from utils.exit_codes import exit_code_of

HERE = Path(__file__).resolve().parent
HELD = "lr_scheduler.args.frozen_epochs={epochs}"
WAYS = {  # name: config, what of it changes, and whether it starts from the backbone
    "from scratch": ("scratch.json", [], False),
    "frozen, then unfrozen": ("config.json", [], True),
    "frozen throughout": ("config.json", [HELD], True),
    "frozen throughout, random": ("config.json", [HELD, "model.weights=null"], False),
}
Accuracies = dict[str, dict[int, list[float]]]  # by way and number of labels, one for each seed


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--seeds", type=int, default=5, help="how many")
    arguments.add_argument("--labels", type=int, nargs="+", default=[10, 20, 50], help="labels a class")
    arguments.add_argument("--epochs", type=int, default=60, help="of each run on few labels")
    arguments.add_argument("--plot", type=png, default=HERE / "accuracy.png", metavar="PNG")
    args = arguments.parse_args(argv)
    needed("matplotlib")  # asked for now, and not after all the runs
    accuracies: Accuracies = {way: {labels: [] for labels in args.labels} for way in WAYS}
    for seed in range(args.seeds):
        with tempfile.TemporaryDirectory() as folder:
            add_seed(accuracies, seed, args.epochs, Path(folder))
        newest = {way: [f"{found[-1]:.3f}" for found in by_labels.values()] for way, by_labels in accuracies.items()}
        print(
            f"seed {seed}: " + "; ".join(f"{way} {' '.join(found)}" for way, found in newest.items()), file=sys.stderr
        )
    print(table(accuracies))
    draw(accuracies, args.plot)


def add_seed(accuracies: Accuracies, seed: int, epochs: int, folder: Path) -> None:
    """Train every way with every number of labels."""
    backbone = trained(str(HERE / "pretrain.json"), folder / "backbone", [f"seed={seed}"])
    for way, (config, changes, starts_from_it) in WAYS.items():
        for labels, found in accuracies[way].items():
            settings = [
                f"seed={seed}",
                f"dataset.args.draw_seed={seed}",
                f"dataset.args.labels_per_class={labels}",
                f"trainer.epochs={epochs}",
                *(change.format(epochs=epochs) for change in changes),
            ]
            target = folder / f"{way} {labels}"
            run_dir = trained(str(HERE / config), target, settings, backbone if starts_from_it else None)
            found.append(scored(run_dir)["accuracy"])


def table(accuracies: Accuracies) -> str:
    """Mean and standard deviation over the seeds, as Markdown."""
    labels = list(next(iter(accuracies.values())))
    rows = [[way, *map(mean_and_spread, by_labels.values())] for way, by_labels in accuracies.items()]
    return markdown_table(["labels a class", *map(str, labels)], rows)


def draw(accuracies: Accuracies, path: Path) -> None:
    """A line for each way, with the standard deviation as bars."""
    labels = list(next(iter(accuracies.values())))
    with picture(path, size=(5.5, 3.6)) as axes:
        for number, (way, by_labels) in enumerate(accuracies.items()):
            places = [count * 1.03**number for count in by_labels]  # beside each other, so that all bars can be seen
            means, spreads = zip(*map(mean_and_deviation, by_labels.values()), strict=True)
            axes.errorbar(places, means, spreads, marker="o", capsize=3, label=way)
        axes.set_xscale("log")
        axes.set_xticks(labels, map(str, labels), minor=False)
        axes.minorticks_off()
        axes.set(xlabel="labels a class", ylabel="test accuracy, digits 5 to 9")
        axes.legend(loc="lower right", fontsize=8)
        axes.grid(alpha=0.3)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
