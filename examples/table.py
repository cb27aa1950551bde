"""Train and score every example, beside its reference; the table is written into examples/README.md.

python -m examples.table
"""

import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from data_loader.datasets import Digits
from examples.commands import parser, scored, trained
from examples.from_scratch.data import MiddlePixels
from examples.from_scratch.reference import error_of, least_squares
from examples.gan import compare as gan
from examples.language_model.data import decoded, encoded, texts
from examples.language_model.ngram import NGram
from examples.packages import needed
from examples.pages import markdown_table
from examples.tabular.compare import measured, rivals
from examples.tabular.data import Diabetes
from examples.text_classification.reference import scores
from examples.text_classification.tokenizer import words_of
from utils.exit_codes import exit_code_of

HERE = Path(__file__).resolve().parent
PAGE = HERE / "README.md"
HEAD = ["task", "lines of its trainer", "seconds", "on the test set", "reached", "reference", "by"]


class Task(NamedTuple):
    """`metric`: of those that `test.py` gives. `rival`: what the reference is of. `reference`: its figure."""

    metric: str
    shown: str
    rival: str
    reference: Callable[[], float]


def config_of(name: str, file: str = "config.json") -> str:
    return str(HERE / name / file)


def normal_distributions() -> float:
    torch.manual_seed(0)
    drawn = gan.references(gan.digits_of("train"))["a normal of each class"]
    return next(gan.scores(drawn))[1]


def counted_words() -> float:
    return scores("test", analyzer=words_of)["accuracy"]


def five_gram() -> float:
    train, test = (decoded(encoded(texts()[split])) for split in ("train", "test"))
    return NGram(train, 5).bits_per_character(test)


def without_backbone() -> float:
    with tempfile.TemporaryDirectory() as folder:
        return scored(trained(config_of("transfer_learning", "scratch.json"), Path(folder)))["accuracy"]


def ridge_regression() -> float:
    parts = [(part.rows.numpy(), part.targets.numpy()) for part in map(Diabetes, ("train", "valid", "test"))]
    return measured(rivals(*parts[:2])["ridge regression"], *parts[2])["R2"]


def support_vectors() -> float:
    train, test = ((part.images.flatten(1).numpy(), part.targets.numpy()) for part in map(Digits, ("train", "test")))
    return needed("sklearn.svm").SVC(gamma=0.001).fit(*train).score(*test)


def exact_solution() -> float:
    return error_of(least_squares(MiddlePixels("train")), MiddlePixels("test"))


TASKS = {
    "gan": Task(
        "frechet_distance", "Fréchet distance (less is better)", "a normal distribution a class", normal_distributions
    ),
    "text_classification": Task("accuracy", "accuracy", "scikit-learn: TF-IDF, logistic regression", counted_words),
    "language_model": Task("bits_per_character", "bits per character (less is better)", "a 5-gram model", five_gram),
    "transfer_learning": Task("accuracy", "accuracy, 10 labels a class", "the same, from scratch", without_backbone),
    "tabular": Task("R2Score", "R2", "scikit-learn: ridge regression", ridge_regression),
    "streaming": Task("accuracy", "accuracy", "scikit-learn: support vectors (gamma 0.001)", support_vectors),
    "from_scratch": Task("loss", "mean squared error", "`torch.linalg.lstsq`, exact", exact_solution),
}


def main(argv: Sequence[str] | None = None) -> None:
    parser(__doc__).parse_args(argv)
    needed("sklearn")  # asked for now, and not after the first runs
    rows = []
    for name in TASKS:
        rows.append(row(name))
        print(*rows[-1], sep="  ", flush=True)
    page = with_table(PAGE.read_text(encoding="utf-8"), markdown_table(HEAD, rows))
    PAGE.write_text(page, encoding="utf-8")


def row(name: str, settings: Iterable[str] = ()) -> list[str]:
    """Train, score, and compute the reference. `settings`: of the run, as behind `--set`."""
    task = TASKS[name]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run_dir = trained(config_of(name), Path(folder), settings)
        seconds = time.perf_counter() - start
        reached = scored(run_dir)[task.metric]
    link = f"[{name}]({name}/README.md)"
    figures = [f"{reached:#.3g}", f"{task.reference():#.3g}"]
    return [link, trainer_lines(name), f"{seconds:.0f}", task.shown, *figures, task.rival]


def trainer_lines(name: str) -> str:
    file = HERE / name / "trainer.py"
    return str(len(file.read_text(encoding="utf-8").splitlines())) if file.exists() else "0: `Trainer`"


def with_table(page: str, table: str) -> str:
    """The page with this table in the place of its own."""
    return re.sub(r"(?<=<!-- table -->\n).*?(?=\n<!-- /table -->)", lambda _: table, page, count=1, flags=re.DOTALL)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
