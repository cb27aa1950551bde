"""Draw how a run came down to its n-gram references, and below.

python -m examples.language_model.plot saved/docstrings_gpt/RUN_ID examples/language_model/bits_per_character.png
"""

import argparse
import json
import sys
from pathlib import Path

from examples.language_model.data import decoded, encoded, texts
from examples.language_model.ngram import NGram
from examples.packages import needed
from utils.errors import exit_code_of

ORDERS = (3, 5)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("picture", metavar="PNG", type=Path)
    args = parser.parse_args(argv)
    needed("matplotlib").use("Agg")
    pyplot = needed("matplotlib.pyplot")
    epochs = [json.loads(line) for line in (args.run / "metrics.jsonl").read_text().splitlines()]
    train, valid = (decoded(encoded(texts()[split])) for split in ("train", "valid"))
    figure, axes = pyplot.subplots(figsize=(5.5, 3.6))
    steps = [epoch["step"] for epoch in epochs]
    for phase, prefix in (("training", ""), ("validation", "val_")):
        bits = [epoch[f"{prefix}bits_per_character"] for epoch in epochs]
        axes.plot(steps, bits, marker=".", label=f"GPT, {phase} text")
    for order, style in zip(ORDERS, ("--", ":"), strict=True):
        reference = NGram(train, order).bits_per_character(valid)
        axes.axhline(reference, color="black", linestyle=style, label=f"{order}-gram, validation text")
    axes.set_xlabel("step")
    axes.set_ylabel("bits per character")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(args.picture, dpi=100, metadata={"Software": None})
    pyplot.close(figure)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
