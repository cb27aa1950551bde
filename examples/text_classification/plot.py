"""The picture of the README, from a run.

python -m examples.text_classification.plot saved/standard_library/RUN_ID
"""

import json
import sys
from pathlib import Path
from typing import Any

from examples.packages import needed
from examples.text_classification.data import StandardLibrary
from examples.text_classification.reference import scores
from examples.text_classification.tokenizer import words_of
from utils.errors import UserError, exit_code_of

PICTURE = Path(__file__).with_name("text_classification.png")


def main() -> None:
    if len(sys.argv) != 2 or not (metrics := Path(sys.argv[1]) / "metrics.jsonl").is_file():
        raise UserError(f"{' '.join(sys.argv[1:]) or 'no argument'}: no run directory. Write the one of a run.")
    draw([json.loads(line) for line in metrics.read_text().splitlines()], PICTURE)


def draw(epochs: list[dict[str, Any]], path: Path) -> None:
    """Left, how long texts are; right, macro-F1 by epoch beside that of counting words."""
    figure, (left, right) = needed("matplotlib.pyplot").subplots(1, 2, figsize=(8, 3), layout="constrained")
    left.hist(StandardLibrary("train").lengths, bins=32)
    left.set(xlabel="word pieces in a text", ylabel="texts", title="training texts, cut at 256")
    numbers = [values["epoch"] for values in epochs]
    for name, label in (("macro_f1", "training"), ("val_macro_f1", "validation")):
        right.plot(numbers, [values[name] for values in epochs], "o-", label=label)
    reference = scores("valid", analyzer=words_of)["macro_f1"]
    right.axhline(reference, color="grey", linestyle="--", label="TF-IDF, validation")
    right.set(xlabel="epoch", title="macro-F1", ylim=(0.4, 1.02))
    right.legend()
    right.grid(alpha=0.3)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
