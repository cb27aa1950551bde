"""The network beside scikit-learn's linear models and boosted trees, on the same splits: tables and a plot.

    python -m examples.tabular.compare

Each way learns from the training rows, decides by the validation rows (when to stop, how much to regularise, how many
trees), and is scored on the test rows; over several splits, since a test set of 90 rows is small.
"""

import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import Any

from examples.commands import parser, png, scored, trained
from examples.packages import needed
from examples.pages import markdown_table, mean_and_spread, picture
from examples.tabular.data import BreastCancer, Diabetes, Table
from utils.exit_codes import exit_code_of

HERE = Path(__file__).resolve().parent
TASKS: dict[
    str, tuple[Callable[..., Table], str, dict[str, str]]
] = {  # data set, config, and the config's metrics by our names
    "diabetes": (Diabetes, "config.json", {"MAE": "MeanAbsoluteError", "R2": "R2Score"}),
    "breast cancer": (BreastCancer, "breast_cancer.json", {"accuracy": "accuracy", "AUROC": "MulticlassAUROC"}),
}
STRENGTHS = [10.0**power for power in range(-3, 4)]  # of regularisation
TREES = 300
Predict = Callable[[Any], Any]  # rows to estimates (N,), or to probabilities (N, classes)
Scores = dict[str, dict[str, list[float]]]  # by way and metric, one for each split


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--splits", type=int, default=10, help="how many")
    arguments.add_argument("--epochs", type=int, default=300, help="the most that the network trains")
    arguments.add_argument("--plot", type=png, default=HERE / "scores.png", metavar="PNG")
    args = arguments.parse_args(argv)
    needed("matplotlib")  # asked for now, and not after all the runs
    scores: dict[str, Scores] = {task: {} for task in TASKS}
    for task in TASKS:
        for seed in range(args.splits):
            add_split(scores[task], task, seed, args.epochs)
        print(f"\n{task}\n\n{as_markdown(scores[task])}")
    draw(scores, args.plot)


def add_split(scores: Scores, task: str, seed: int, epochs: int) -> None:
    """Score every way on one more split."""
    table, config, metrics = TASKS[task]
    with tempfile.TemporaryDirectory() as folder:
        settings = [f"seed={seed}", f"dataset.args.split_seed={seed}", f"trainer.epochs={epochs}"]
        values = scored(trained(str(HERE / config), Path(folder), settings))
    found = {"network": {name: values[metric] for name, metric in metrics.items()}}
    train, valid, test = (
        (part.rows.numpy(), part.targets.numpy())
        for part in (table(split, split_seed=seed) for split in ("train", "valid", "test"))
    )
    found |= {way: measured(predict, *test) for way, predict in rivals(train, valid).items()}
    for way, by_name in found.items():
        for name, value in by_name.items():
            scores.setdefault(way, {}).setdefault(name, []).append(value)


def rivals(train: Any, valid: Any) -> dict[str, Predict]:
    """Predictors by name, fitted to (rows, targets) and chosen by others."""
    linear_model, ensemble, metrics = (needed(f"sklearn.{name}") for name in ("linear_model", "ensemble", "metrics"))
    if is_class(train[1]):
        loss, name, predict = metrics.log_loss, "logistic regression", "predict_proba"
        linears = [linear_model.LogisticRegression(C=strength, max_iter=1000) for strength in STRENGTHS]
        trees = ensemble.GradientBoostingClassifier(n_estimators=TREES, random_state=0)
    else:
        loss, name, predict = metrics.mean_squared_error, "ridge regression", "predict"
        linears = [linear_model.Ridge(alpha=strength) for strength in STRENGTHS]
        trees = ensemble.GradientBoostingRegressor(n_estimators=TREES, random_state=0)
    fitted = [getattr(scaled(linear).fit(*train), predict) for linear in linears]
    rows, targets = valid
    linear = min(fitted, key=lambda predict: loss(targets, predict(rows)))
    staged = getattr(trees.fit(*train), f"staged_{predict}")  # with one tree, two, ...
    losses = [loss(targets, outputs) for outputs in staged(rows)]
    return {name: linear, "boosted trees": lambda rows: nth(staged(rows), losses.index(min(losses)))}


def is_class(targets: Any) -> bool:
    return targets.dtype.kind == "i"


def scaled(estimator: Any) -> Any:
    return needed("sklearn.pipeline").make_pipeline(needed("sklearn.preprocessing").StandardScaler(), estimator)


def nth(items: Iterable[Any], number: int) -> Any:
    return next(islice(items, number, None))


def measured(predict: Predict, rows: Any, targets: Any) -> dict[str, float]:
    metrics, outputs = needed("sklearn.metrics"), predict(rows)
    if is_class(targets):
        accuracy = metrics.accuracy_score(targets, outputs.argmax(axis=1))
        return {"accuracy": accuracy, "AUROC": metrics.roc_auc_score(targets, outputs[:, 1])}
    return {"MAE": metrics.mean_absolute_error(targets, outputs), "R2": metrics.r2_score(targets, outputs)}


def as_markdown(scores: Scores) -> str:
    """Mean and standard deviation over the splits."""
    names = list(next(iter(scores.values())))
    rows = [[way, *(mean_and_spread(each, "#.3g", "#.2g") for each in found.values())] for way, found in scores.items()]
    return markdown_table(["", *names], rows)


def draw(scores: dict[str, Scores], path: Path) -> None:
    """A panel for each table, with the last of its metrics: a line for each split, a mark at the means."""
    with picture(path, size=(7.5, 3), columns=len(scores)) as panels:
        for axes, (task, by_way) in zip(panels, scores.items(), strict=True):
            name = list(next(iter(by_way.values())))[-1]
            columns = [by_name[name] for by_name in by_way.values()]
            places = range(len(columns))
            for values in zip(*columns, strict=True):
                axes.plot(places, values, "o-", color="tab:blue", alpha=0.35)
            axes.plot(places, [mean(values) for values in columns], "_", color="black", markersize=30)
            axes.set_xticks(places, [way.replace(" ", "\n") for way in by_way])
            axes.margins(x=0.2)
            axes.set_title(f"{task}: {name}", fontsize=10)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
