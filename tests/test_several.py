"""Cross-validation, several seeds, and predictions: `--folds`, `--seeds`, `test.py --predictions`."""

import csv
import json
import re
from statistics import mean, stdev

import pytest
import torch
from conftest import Interrupting, load, metrics_of
from torch import nn

import test as test_script
import train as train_script
import trainer.trainer
from base.base_trainer import StepResult
from data_loader.datasets import Digits
from logger.predictions import Predictions
from utils.errors import UserError

POOL = 1259 + 179


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def folder_of(project, name):
    return project.folder / "saved" / name


@pytest.fixture
def several(project):
    """Run the command for several runs; its folder and what it said."""

    def run(*arguments, expected=0, **sections):
        sections = {"trainer": {"monitor": "min val_loss"}} | sections
        code, out, err = project.command(train_script, "-c", project.write_config(**sections), *arguments)
        assert code == expected, out + err
        return out + err

    return run


def test_folds_are_runs_below_one_folder_with_a_table_and_predictions(project, several):
    said = several("--folds", "3")
    folder = folder_of(project, "digits_lenet-3folds")
    runs = sorted(path.parent for path in folder.glob("*/config.json"))
    configs = [json.loads((run / "config.json").read_text()) for run in runs]
    assert [config["dataset"]["fold"] for config in configs] == ["1/3", "2/3", "3/3"]
    best = [min(metrics_of(run), key=lambda line: line["val_loss"]) for run in runs]
    summary = json.loads((folder / "summary.json").read_text())
    assert [row["run"] for row in summary["runs"]] == [run.name for run in runs]
    for name in ("val_loss", "val_accuracy"):
        values = [line[name] for line in best]
        assert summary["mean"][name] == pytest.approx(mean(values)) and f"{mean(values):.4f}" in said
        assert summary["std"][name] == pytest.approx(stdev(values)) and f"{stdev(values):.4f}" in said
    found = rows_of(folder / "predictions.csv")
    assert [int(row["sample"]) for row in found] == list(range(POOL))
    for number, line in enumerate(best, start=1):
        own = [row["target"] == row["prediction"] for row in found if row["fold"] == str(number)]
        assert mean(own) == pytest.approx(line["val_accuracy"]) and abs(len(own) - POOL / 3) < 1
    train, valid = Digits("train"), Digits("valid")
    assert [int(row["target"]) for row in found] == [*train.targets.tolist(), *valid.targets.tolist()]


def test_stopped_and_started_again_they_go_on(project, several, write_into, monkeypatch):
    write_into(trainer.trainer, Interrupting)
    several("--folds", "2", name="whole", trainer={"type": "Interrupting"})
    monkeypatch.setattr(Interrupting, "stop_at", 13)
    several("--folds", "2", trainer={"type": "Interrupting"}, expected=143)
    folder = folder_of(project, "digits_lenet-2folds")
    first = next(folder.glob("*-*"))
    assert load(first / "last.pth")["step"] == 13 and not (folder / "summary.json").exists()
    several("--folds", "2", trainer={"type": "Interrupting"}, expected=143)
    before = {path: path.stat().st_mtime_ns for path in first.glob("*.pth")}
    monkeypatch.setattr(Interrupting, "stop_at", None)
    said = several("--folds", "2", trainer={"type": "Interrupting"})
    assert f"{first.name} is finished" in said and before == {path: path.stat().st_mtime_ns for path in before}
    runs, expected = sorted(folder.glob("*/")), sorted(folder_of(project, "whole-2folds").glob("*/"))
    assert [metrics_of(run) for run in runs] == [metrics_of(run) for run in expected] and len(runs) == 2
    predictions = [folder_of(project, name) / "predictions.csv" for name in ("whole-2folds", "digits_lenet-2folds")]
    assert predictions[0].read_text() == predictions[1].read_text()


def test_seeds_are_runs_of_their_own(project, several):
    said = several("--seeds", "3,1", trainer={"epochs": 1})
    folder = folder_of(project, "digits_lenet-seeds")
    summary = json.loads((folder / "summary.json").read_text())
    assert [row["seed"] for row in summary["runs"]] == [3, 1] and "predictions" not in said
    assert len({row["val_loss"] for row in summary["runs"]}) == 2
    (own,) = [line for run in folder.glob("*/") for line in metrics_of(run) if run.name == summary["runs"][1]["run"]]
    alone = project.train(seed=1, trainer={"epochs": 1, "monitor": "min val_loss"})
    assert own == metrics_of(alone)[0]


def test_folds_of_several_seeds(project, several):
    several("--folds", "2", "--seeds", "0,1", trainer={"epochs": 1})
    folder = folder_of(project, "digits_lenet-2folds-seeds")
    assert len(list(folder.glob("*/config.json"))) == 4
    found = rows_of(folder / "predictions.csv")
    assert [(row["seed"], int(row["sample"])) for row in found] == [(s, i) for s in "01" for i in range(POOL)]


def test_one_fold_by_itself_scores_the_same(project):
    run = project.train(dataset={"type": "Digits", "fold": "2/5"}, trainer={"monitor": "min val_loss"})
    best = min(metrics_of(run), key=lambda line: line["val_loss"])
    assert project.test("-r", run, "--split", "valid")[0]["loss"] == pytest.approx(best["val_loss"], rel=1e-6)
    assert project.test("-r", run)[0]["accuracy"] > 0.1  # the test set is whole
    assert "dataset.fold: cannot change" in project.refused("-r", run, "--set", "dataset.fold=1/5")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--folds", "1"], "argument --folds: found 1. Write a whole number of at least 2"),
        (["--folds", "two"], "argument --folds: found 'two'. Write a whole number of at least 1 and below a billion."),
        (["--seeds", "1,1"], "argument --seeds: found '1,1'. Write whole numbers, each once, such as 1,2,3."),
        (["--folds", "2", "--check"], "argument --folds: needs -c/--config alone"),
        (["--seeds", "1,2", "--set", "seed=3"], "--seeds: excludes --set seed. Leave one out."),
        (["--folds", "3", "--set", "dataset.fold=1/3"], "--folds: excludes dataset.fold, which is 1/3. Leave one out."),
        (["--seeds", "2", "-r", "auto"], "argument --seeds: needs -c/--config alone"),
        (
            ["--set", "dataset.fold=6/5"],
            "dataset.fold: found '6/5'. Write a fold and how many there are, such as '2/5'.",
        ),
        (["--folds", "2000"], f"dataset.fold: {POOL} samples cannot be cut into 2000 folds."),
    ],
)
def test_what_is_refused(project, arguments, message):
    assert message in project.refused("-c", project.write_config(), *arguments)


# ---- predictions ----


def test_predictions_of_the_test_set(project):
    run = project.train()
    path = project.folder / "predictions.csv"
    scores, _ = project.test("-r", run, "--predictions", path)
    found = rows_of(path)
    assert mean(row["target"] == row["prediction"] for row in found) == pytest.approx(scores["accuracy"])
    outputs = torch.tensor([[float(row[f"output_{i}"]) for i in range(10)] for row in found])
    targets = torch.tensor([int(row["target"]) for row in found])
    assert nn.functional.nll_loss(outputs, targets).item() == pytest.approx(scores["loss"], rel=1e-4)
    assert [int(row["sample"]) for row in found] == list(range(359)) and "predictions" not in scores


def test_outputs_of_any_shape_are_rows_while_they_are_short(tmp_path):
    kept, images = Predictions(), torch.arange(24.0).view(3, 2, 2, 2)
    kept.update(images, images[:, 0])
    kept.write(tmp_path / "rows.csv")
    (first, *_) = found = rows_of(tmp_path / "rows.csv")
    assert len(found) == 3 and list(first) == [
        "sample",
        *(f"target_{i}" for i in range(4)),
        *(f"output_{i}" for i in range(8)),
    ]
    assert [float(found[1][f"output_{i}"]) for i in range(8)] == list(range(8, 16))
    with pytest.raises(UserError, match="more than 1,000 numbers for each sample"):
        kept.update(torch.zeros(2, 1001), torch.zeros(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_are_read_back_exactly(tmp_path, dtype):
    prices = 123_456_789 + torch.rand(50, 1, dtype=dtype, generator=torch.Generator().manual_seed(0)) / 3
    kept = Predictions()
    kept.update(prices / 7, prices)
    kept.write(tmp_path / "rows.csv")
    found = rows_of(tmp_path / "rows.csv")
    for column, right in {"output": prices / 7, "target": prices}.items():
        assert torch.equal(torch.tensor([[float(row[column])] for row in found], dtype=dtype), right)


class TwoViews(trainer.trainer.Trainer):
    """Gives its metrics each sample twice."""

    def valid_step(self, batch):
        inputs, targets = batch
        both, targets = torch.cat([inputs, inputs.flip(-1)]), torch.cat([targets, targets])
        outputs = self.forward(both)
        self.metrics(outputs, targets)
        return StepResult({"loss": self.loss_fn(outputs, targets)}, len(inputs))


def test_rows_that_are_no_samples_are_refused(project, write_into):
    write_into(trainer.trainer, TwoViews)
    run = project.train(trainer={"type": "TwoViews", "epochs": 1})
    path = project.folder / "twice.csv"
    said = project.refused("-r", run, "--predictions", path, script=test_script)
    assert re.search(r"(\d+) rows for a batch of (\d+) samples\. The first dimension", said)
    assert not path.exists()


class Silent(trainer.trainer.Trainer):
    """Asks no metrics."""

    def valid_step(self, batch):
        inputs, targets = batch
        return StepResult({"loss": self.loss_fn(self.forward(inputs), targets)}, len(targets))


def test_no_predictions_where_no_outputs_are_given(project, several, write_into):
    write_into(trainer.trainer, Silent)
    said = several("--folds", "2", trainer={"type": "Silent", "epochs": 1})
    folder = folder_of(project, "digits_lenet-2folds")
    assert "No predictions.csv: --predictions: this trainer gives no outputs to its metrics." in said
    assert (folder / "summary.json").is_file() and not (folder / "predictions.csv").exists()
    path = project.folder / "none.csv"
    assert "gives no outputs" in project.refused(
        "-r", next(folder.glob("*/")), "--predictions", path, script=test_script
    )
    assert not path.exists()
