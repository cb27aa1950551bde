"""One command, several runs: the folds of a cross-validation, several seeds, or both."""

import csv
import io
import json
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from math import isfinite
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import Any

from base.build import build_trainer
from logger.scoring import score
from utils.checkpoints.auto import run_of_plan
from utils.checkpoints.run_dir import METRICS
from utils.config.loading import Config
from utils.config.numerals import float_or_whole
from utils.config.places import Places
from utils.config.plan import make_plan
from utils.config.reading import config_of, read_config
from utils.encoding import print_visible
from utils.errors import RunError, Stopped, UserError
from utils.files import write_atomically
from utils.frames import short_traceback
from utils.known_secrets import hidden
from utils.paths import shown_path

SUMMARY, PREDICTIONS = "summary.json", "predictions.csv"
Row = dict[str, Any]
Train = Callable[[Namespace, Config | None, Places], object]


def each_run(args: Namespace, train: Train) -> None:
    """Make the runs that a command asks for. They are in one folder, and continue where an earlier command with the
    same config has stopped. One that fails does not end the others. At the end, a summary is written.

    `train`: of train.py.

    Raises:
        RunError: some runs have failed.
    """
    rows: list[Row] = []
    folder = Path()
    for seed, fold, own in _runs(args):
        error = _failure_of(train, own, is_first=not rows)
        reached: Row = {"error": error} if error else _reached(own)
        rows.append({"seed": seed, "fold": fold} | reached)
        folder = Path(reached["run"]).parent if not error else folder
    good = [row for row in rows if "error" not in row]
    failed = [f"seed {row['seed']}" + f", fold {row['fold']}" * bool(row["fold"]) for row in rows if "error" in row]
    if good:
        for row in good:
            row["run"] = Path(row["run"]).name
        write_atomically(folder / SUMMARY, json.dumps({"runs": rows, **_spread(good)}, indent=2).encode())
        print_visible(f"{table(good)}\nIn {shown_path(folder)}: {SUMMARY}")
        if args.folds:
            print_visible(_write_predictions(folder, good, args))
    if failed:
        raise RunError(
            f"{len(failed)} of {len(rows)} runs failed ({'; '.join(failed)}). The same command tries them again."
        )


def _runs(args: Namespace) -> Iterator[tuple[int, str | None, Namespace]]:
    """The seed, fold and arguments of each run."""
    config = read_config(args.config, args.set, Places())
    if args.seeds and any(assignment.partition("=")[0].strip() == "seed" for assignment in args.set):
        raise UserError("--seeds: excludes --set seed. Leave one out.")
    if args.folds and isinstance(config["dataset"], dict) and config["dataset"].get("fold"):
        raise UserError(f"--folds: excludes dataset.fold, which is {config['dataset']['fold']}. Leave one out.")
    name = config["name"] + (f"-{args.folds}folds" if args.folds else "") + ("-seeds" if args.seeds else "")
    seeds, numbers = args.seeds or [config.get("seed", 0)], range(1, args.folds + 1) if args.folds else [None]
    for seed, number in ((seed, number) for seed in seeds for number in numbers):  # there may be a billion
        fold = f"{number}/{args.folds}" if number else None
        assignments = [f"name={json.dumps(name)}", f"seed={seed}"] + [f"dataset.fold={fold}"] * (fold is not None)
        yield seed, fold, Namespace(**vars(args) | {"set": [*args.set, *assignments], "resume": "auto"})


def _failure_of(train: Train, args: Namespace, is_first: bool) -> str:
    """Make a run; what ended it, if something did. An input that the first run refuses ends all of them."""
    try:
        with config_of(args) as (config, places):
            train(args, config, places)
        return ""
    except Stopped:
        raise
    except Exception as error:
        if is_first and isinstance(error, UserError):
            raise
        is_clear = isinstance(error, (UserError, RunError))
        text = hidden(str(error) if is_clear else short_traceback(error) or f"{type(error).__name__}: {error}")
        print_visible(f"error: {text}", file=sys.stderr)
        return text.splitlines()[0]


def _reached(args: Namespace) -> Row:
    """Where a run is, and its values in the best epoch; in the last one, where nothing decides."""
    plan = make_plan(read_config(args.config, args.set, Places()))
    run_dir, checkpoint = run_of_plan(plan)
    epoch = checkpoint["monitor"].get("best_values", {}).get("epoch", checkpoint["epoch"])
    values = _values_of(run_dir / METRICS, epoch)
    scores = {name: value for name, value in values.items() if name.startswith("val_")}
    return {"run": str(run_dir), "epoch": epoch} | (scores or {"loss": values.get("loss")})


def _values_of(path: Path, epoch: Any) -> Row:
    """The finite values of an epoch; none where its line is lost or damaged."""
    with suppress(OSError):
        for line in path.read_bytes().splitlines():
            with suppress(ValueError, RecursionError):
                values = json.loads(line, parse_int=float_or_whole)
                if isinstance(values, dict) and values.get("epoch") == epoch:
                    return {name: value for name, value in values.items() if _is_finite(value)}
    return {}


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and isfinite(value)


def _spread(rows: list[Row]) -> dict[str, Row]:
    """Mean and standard deviation (n - 1) of each value over the runs; none where one of them is not finite."""
    names = [name for name in rows[0] if name not in ("seed", "fold", "run", "epoch")]
    finite = [name for name in names if all(row.get(name) is not None for row in rows)]
    values = {name: [row[name] for row in rows] for name in finite}
    return {
        "mean": {name: mean(own) for name, own in values.items()},
        "std": {name: stdev(own) if len(own) > 1 else 0.0 for name, own in values.items()},
    }


def table(rows: list[Row]) -> str:
    """A line for each run, the mean and the standard deviation."""
    names = [name for name in rows[0] if name != "run" and (name != "fold" or rows[0][name])]
    lines = [names, *([_shown(row.get(name)) for name in names] for row in rows)]
    for title, values in _spread(rows).items():
        lines.append([title, *(_shown(values.get(name, "")) for name in names[1:])])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    head, *rest = ("  ".join(map(str.rjust, line, widths)) for line in lines)
    return "\n".join([head, "-" * len(head), *rest])


def _shown(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _write_predictions(folder: Path, rows: list[Row], args: Namespace) -> str:
    """Write what each sample is given by the run that has not trained on it, in their order; say so, or why not."""
    lines: list[list[str]] = []
    for row in rows:
        try:
            head, *own = _predicted(folder / row["run"], args.device)
        except UserError as error:
            return f"No {PREDICTIONS}: {error}"
        fold = row["fold"].partition("/")[0]
        lines += [[line[0], str(row["seed"]), fold, *line[1:]] for line in own]
    lines.sort(key=lambda line: (int(line[1]), int(line[0])))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[head[0], "seed", "fold", *head[1:]], *lines])
    write_atomically(folder / PREDICTIONS, text.getvalue().encode())
    return f"and {PREDICTIONS}: each sample, by the run that has not seen it"


def _predicted(run_dir: Path, device: str | None) -> list[list[str]]:
    """The lines of a run's predictions for its validation samples."""
    with TemporaryDirectory() as temporary, redirect_stdout(io.StringIO()):
        path = Path(temporary) / PREDICTIONS
        score(build_trainer, Namespace(resume=run_dir, split="valid", device=device, predictions=path, set=[]))
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.reader(file))
