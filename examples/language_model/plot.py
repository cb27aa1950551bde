"""Draw how a run came down to its n-gram references, and below.

python -m examples.language_model.plot saved/docstrings_gpt/RUN_ID examples/language_model/bits_per_character.png
"""

import sys
from pathlib import Path

from examples.commands import parser, png
from examples.language_model.data import decoded, encoded, texts
from examples.language_model.ngram import NGram
from examples.packages import needed
from examples.pages import epochs_of, picture
from utils.exit_codes import exit_code_of

ORDERS = (3, 5)


def main(argv: list[str] | None = None) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("run", metavar="RUN", type=Path)
    arguments.add_argument("picture", metavar="PNG", type=png)
    args = arguments.parse_args(argv)
    needed("matplotlib")  # asked for now, and not after the n-grams
    epochs = epochs_of(args.run, "bits_per_character")
    train, valid = (decoded(encoded(texts()[split])) for split in ("train", "valid"))
    steps = [epoch["step"] for epoch in epochs]
    with picture(args.picture, size=(5.5, 3.6)) as axes:
        for phase, prefix in (("training", ""), ("validation", "val_")):
            bits = [epoch[f"{prefix}bits_per_character"] for epoch in epochs]
            axes.plot(steps, bits, marker=".", label=f"GPT, {phase} text")
        for order, style in zip(ORDERS, ("--", ":"), strict=True):
            reference = NGram(train, order).bits_per_character(valid)
            axes.axhline(reference, color="black", linestyle=style, label=f"{order}-gram, validation text")
        axes.set(xlabel="step", ylabel="bits per character")
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
