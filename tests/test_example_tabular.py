"""examples/tabular: what is fitted comes from the training rows, and torchmetrics live through a run."""

import json
import re
import sys

import pytest
import torch
from conftest import ROOT, Interrupting, load, metrics_of
from torch.nn import functional as F

from examples.tabular import compare
from examples.tabular.data import BreastCancer, Diabetes, Table, indices_of_splits
from examples.tabular.model import Preparation, TableNet
from examples.tabular.trainer import TableTrainer

HERE = ROOT / "examples" / "tabular"
README = (HERE / "README.md").read_text(encoding="utf-8")
SPLITS = ("train", "valid", "test")


@pytest.fixture
def train(project):
    """Train one of the configs, with changes; its run directory."""

    def train(name, *changes, options=()):
        return project.train_with(
            HERE / name,
            *options,
            "--set",
            f"trainer.save_dir={project.folder}/saved",
            "trainer.tensorboard=false",
            *changes,
        )

    return train


# ---- the runs ----


def test_the_diabetes_run_stops_early_and_is_as_good_as_the_page_says(project, train):
    run = train("config.json", "trainer.early_stop=10")
    lines = metrics_of(run)
    losses = [line["val_loss"] for line in lines]
    assert len(lines) == losses.index(min(losses)) + 1 + 10 < 300
    values, _ = project.test("-r", run)
    assert values["R2Score"] > 0.45 and values["MeanAbsoluteError"] < 50  # 0 and 69 for the mean of the targets
    rows = Diabetes("test")
    network = TableNet(10, {"1": 2}, hidden=(64, 64)).eval()
    network.load_state_dict(load(run / "model_best.pth")["model"])
    with torch.no_grad():
        outputs = network(rows.rows)
    residual, total = F.mse_loss(outputs, rows.targets), rows.targets.var(correction=0)
    assert values["R2Score"] == pytest.approx(1 - (residual / total).item(), abs=1e-5)
    assert values["MeanAbsoluteError"] == pytest.approx((outputs - rows.targets).abs().mean().item(), rel=1e-5)


def test_the_tumours_are_told_apart_and_test_py_agrees_with_the_validation(project, train):
    run = train("breast_cancer.json", "trainer.epochs=20")
    values, _ = project.test("-r", run)
    assert values["accuracy"] > 0.93 and values["MulticlassAUROC"] > 0.98  # 0.63 and 0.5 by chance
    best = load(run / "model_best.pth")["monitor"]["best_values"]
    values, _ = project.test("-r", run, "--split", "valid")
    assert {f"val_{name}": value for name, value in values.items()} == {
        name: value for name, value in best.items() if name.startswith("val_")
    }


class InterruptingTable(Interrupting, TableTrainer):
    """Sends its process a signal in one step of the training or of the validation."""


@pytest.mark.parametrize("name", ["config.json", "breast_cancer.json"])
@pytest.mark.parametrize(("stops", "in_validation"), [((2, 5), False), ((3,), True)])
def test_a_stopped_run_ends_as_one_that_never_stopped(run_with_stops, name, stops, in_validation):
    config = json.loads((HERE / name).read_text())
    sections = {key: config[key] for key in ("model", "dataset", "loss", "metrics", "optimizer")}
    run_with_stops(
        *stops,
        trainer_class=InterruptingTable,
        in_validation=in_validation,
        batch_size=128,
        lr_scheduler=None,
        **sections,
    )


def test_a_run_from_the_weights_of_another_keeps_what_they_were_fitted_to(train):
    first = train("config.json", "trainer.epochs=1")
    second = train("config.json", "trainer.epochs=1", "dataset.args.split_seed=1", options=["--init-from", first])
    fitted = [load(run / "last.pth")["model"]["preparation.mean"] for run in (first, second)]
    assert torch.equal(*fitted)
    assert not torch.allclose(fitted[0][0], Diabetes("train", split_seed=1).rows[:, 0].mean())


# ---- nothing of the other splits gets in ----


@pytest.mark.parametrize(("name", "table"), [("config.json", Diabetes), ("breast_cancer.json", BreastCancer)])
def test_what_a_run_has_fitted_is_that_of_the_training_rows_alone(train, name, table):
    state = load(train(name, "trainer.epochs=1") / "last.pth")["model"]
    numbers = [column for column in range(table("train").rows.shape[1]) if (name, column) != ("config.json", 1)]
    rows = {split: table(split).rows[:, numbers].double() for split in SPLITS}
    assert torch.allclose(state["preparation.mean"].double(), rows["train"].mean(dim=0))
    assert torch.allclose(state["preparation.std"].double(), rows["train"].std(dim=0, correction=0))
    assert not torch.allclose(state["preparation.mean"].double(), torch.cat(list(rows.values())).mean(dim=0))
    assert state["fitted_rows"] == len(rows["train"])
    targets = table("train").targets
    of_targets = (targets.mean().item(), targets.std(correction=0).item()) if name == "config.json" else (0, 1)
    assert (state["target_mean"].item(), state["target_std"].item()) == pytest.approx(of_targets)


def test_other_validation_and_test_rows_change_nothing_that_is_fitted():
    rows, targets = torch.randn(50, 3), torch.randn(50)
    rows[:, 2] = torch.arange(50) % 2
    train, *others = indices_of_splits(50, seed=3)
    changed, changed_targets = rows.clone(), targets.clone()
    changed[torch.cat(others)] = 1000.0
    changed_targets[torch.cat(others)] = -1000.0
    networks = [TableNet(3, {"2": 2}) for _ in range(3)]
    changed_in_train = rows.clone()
    changed_in_train[train[0]] += 1
    cases = [(rows, targets), (changed, changed_targets), (changed_in_train.clamp(max=1), targets)]
    for network, case in zip(networks, cases, strict=True):
        table = Table("train", *case, split_seed=3)
        network.fit(table.rows, table.targets)
    same, equal, other = (dict(network.named_buffers()) for network in networks)
    assert len(same) == 6 and all(torch.equal(same[name], equal[name]) for name in same)
    assert not torch.equal(same["preparation.mean"], other["preparation.mean"])


def test_every_row_is_in_one_split():
    splits = indices_of_splits(442, seed=0)
    assert [len(indices) for indices in splits] == [265, 88, 89]
    assert torch.cat(splits).sort().values.tolist() == list(range(442))
    assert not torch.equal(splits[0], indices_of_splits(442, seed=1)[0])
    assert torch.equal(Diabetes("train").rows, Diabetes("train").rows)


# ---- the preparation ----


def test_numbers_are_standardised_and_levels_get_columns():
    rows = torch.tensor([[1.0, 7, 5], [3.0, 9, 5]])
    preparation = Preparation(3, {"1": 3})
    preparation.fit(rows)
    assert preparation(rows).tolist() == [[-1, 0, 1, 0, 0], [1, 0, 0, 1, 0]]  # the last column is constant
    unseen = torch.tensor([[2.0, 8, 6]])
    assert preparation(unseen).tolist() == [[0, 1, 0, 0, 0]]


def test_more_levels_than_the_config_says_are_an_error(project):
    changes = 'model.args.categories={"0": 2, "1": 2}'
    with pytest.raises(ValueError, match="column 0 has 57 levels in the training rows, not 2"):
        Preparation(10, {"0": 2, "1": 2}).fit(Diabetes("train").rows)
    assert "column 0 has" in project.refused("-c", HERE / "config.json", "--set", changes)


def test_the_network_gives_numbers_in_the_units_of_the_targets():
    table = Diabetes("train")
    network = TableNet(10, {"1": 2}, dropout=0.0)
    network.fit(table.rows, table.targets)
    assert network(table.rows).shape == (265,) and network(table.rows).mean().item() == pytest.approx(152, abs=15)
    assert TableNet(10, num_classes=4)(table.rows).shape == (265, 4)


# ---- the comparison and the page ----


def test_without_scikit_learn_one_message_says_what_to_install(project, monkeypatch):
    monkeypatch.delitem(sys.modules, "sklearn.datasets", raising=False)
    monkeypatch.setitem(sys.modules, "sklearn", None)  # as it is for Python where it is not installed
    message = project.refused("-c", HERE / "config.json")
    assert message == "error: scikit-learn is not installed. Run: pip install -r requirements-examples.txt\n"


def test_the_comparison_prints_tables_and_draws(tmp_path, capsys):
    compare.main(["--splits", "1", "--epochs", "1", "--plot", str(tmp_path / "plot.png")])
    lines = capsys.readouterr().out.splitlines()
    ways = [line.split(" | ")[0].strip("| ") for line in lines if re.match(r"\| \w", line)]
    rivals = [["network", linear, "boosted trees"] for linear in ("ridge regression", "logistic regression")]
    assert ways == rivals[0] + rivals[1]
    (ridge,) = [line for line in lines if "ridge" in line]
    assert float(ridge.split("|")[3].split()[0]) > 0.45  # R2 of this split
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_names_commands_and_files_that_are_there(capsys):
    named = set(re.findall(r"-c (examples/\S+\.json)", README))
    assert named == {f"examples/tabular/{path.name}" for path in HERE.glob("*.json")}
    assert all((HERE / link).is_file() for link in re.findall(r"\]\((?!http)([^)]+)\)", README))
    assert set(re.findall(r"--set (\S+)", README)) <= {
        "model.args.hidden=[]`:",
        "model.args.dropout=0`:",
        "trainer.early_stop=null",
    }
    with pytest.raises(SystemExit, match="0"):
        compare.main(["--help"])
    assert "python -m examples.tabular.compare\n" in capsys.readouterr().out


def test_without_hidden_layers_it_is_a_linear_model(train):
    state = load(train("config.json", "trainer.epochs=1", "model.args.hidden=[]") / "last.pth")["model"]
    assert state["output.weight"].shape == (1, 11) and not any(name.startswith("hidden") for name in state)
