"""The picture of the README, from a run.

python -m examples.text_classification.plot saved/standard_library/RUN_ID
"""

import sys
from pathlib import Path
from typing import Any

from examples.commands import parser
from examples.pages import epochs_of, picture
from examples.text_classification.data import StandardLibrary
from examples.text_classification.reference import scores
from examples.text_classification.tokenizer import words_of
from utils.exit_codes import exit_code_of

PICTURE = Path(__file__).with_name("text_classification.png")


def main(argv: list[str] | None = None) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("run", metavar="RUN", type=Path)
    draw(epochs_of(arguments.parse_args(argv).run, "macro_f1"), PICTURE)


def draw(epochs: list[dict[str, Any]], path: Path) -> None:
    """Left, how long texts are; right, macro-F1 by epoch beside that of counting words."""
    numbers = [values["epoch"] for values in epochs]
    reference = scores("valid", analyzer=words_of)["macro_f1"]
    with picture(path, size=(8, 3), columns=2) as (left, right):
        left.hist(StandardLibrary("train").lengths, bins=32)
        left.set(xlabel="word pieces in a text", ylabel="texts", title="training texts, cut at 256")
        for name, label in (("macro_f1", "training"), ("val_macro_f1", "validation")):
            right.plot(numbers, [values[name] for values in epochs], "o-", label=label)
        right.axhline(reference, color="grey", linestyle="--", label="TF-IDF, validation")
        right.set(xlabel="epoch", title="macro-F1", ylim=(0.4, 1.02))
        right.legend()
        right.grid(alpha=0.3)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
