"""All examples alike: their table, a look at their data, folds and seeds."""

import json
import re
from importlib import import_module
from itertools import product

import pytest
from conftest import ROOT

import data_loader.__main__ as look_script
import train as train_script
from examples import table

TASKS = list(table.TASKS)
PAGE = table.PAGE.read_text(encoding="utf-8")
WITHOUT_PREDICTIONS = {"gan", "language_model"}  # nothing that is of one sample
SHORT = ["trainer.epochs=1", "trainer.epoch_steps=2", "trainer.valid_steps=2"]


def config_of(name):
    return ROOT / "examples" / name / "config.json"


# ---- the table ----


def test_every_example_is_in_the_table_with_the_lines_of_its_trainer():
    assert TASKS == re.findall(r"^\| \[(\w+)\]", PAGE, re.MULTILINE)
    assert {path.parent.name for path in (ROOT / "examples").glob("*/README.md")} == set(TASKS)
    for name in TASKS:
        own = f"examples.{name}.trainer."
        is_own = json.loads(config_of(name).read_text())["trainer"].get("type", "").startswith(own)
        lines = len(config_of(name).with_name("trainer.py").read_text().splitlines()) if is_own else 0
        assert re.search(rf"^\| \[{name}\]\({name}/README.md\) \| {lines}\b", PAGE, re.MULTILINE), name


@pytest.mark.parametrize("name", ["streaming", "tabular", "from_scratch"])
def test_a_row_has_what_test_py_says_and_the_reference_that_the_page_has(name):
    cells = table.row(name, ["trainer.epochs=1"])
    on_the_page = [
        cell.strip() for cell in re.search(rf"^\| \[{name}\].*", PAGE, re.MULTILINE)[0].strip("|").split("|")
    ]
    assert cells[:2] + cells[3:4] + cells[5:] == on_the_page[:2] + on_the_page[3:4] + on_the_page[5:]
    assert float(cells[4]) != float(on_the_page[4])  # after one epoch


def test_the_table_takes_the_place_of_the_one_before():
    page = "a\n<!-- table -->\nold\n<!-- /table -->\nb"
    assert table.with_table(page, r"new \1") == page.replace("old", r"new \1")


# ---- for every task ----


@pytest.mark.parametrize("name", TASKS)
def test_a_batch_can_be_looked_at(project, name):
    picture = project.folder / "batch.png"
    code, out, err = project.command(look_script, "-c", config_of(name), "--out", picture)
    assert code == 0, out + err
    for split in ("train", "valid", "test"):
        assert re.search(rf"^{split}: ([\d,]+ samples|a stream)", out, re.MULTILINE)
    shown = {"gan": "drawn: ", "transfer_learning": "drawn: ", "streaming": "drawn: "} | {
        "text_classification": r"^  \w+ \w+ ",
        "language_model": r"^  .{64}$",
    }
    assert re.search(shown.get(name, r"^  0 +\(\d+, \d+\) +float32 "), out, re.MULTILINE)
    assert picture.exists() == ("drawn" in shown.get(name, ""))


@pytest.mark.parametrize("name", TASKS)
def test_folds_and_seeds(project, name):
    settings = [*SHORT, f"trainer.save_dir={project.folder}/saved", "trainer.tensorboard=false", "n_gpu=0"]
    folds = [] if name == "streaming" else ["--folds", 2]
    code, out, err = project.command(train_script, "-c", config_of(name), *folds, "--seeds", "0,1", "--set", *settings)
    assert code == 0, out + err
    (summary,) = (project.folder / "saved").glob("*/summary.json")
    found = json.loads(summary.read_text())
    of_a_seed = ["1/2", "2/2"] if folds else [None]
    assert [(run["seed"], run["fold"]) for run in found["runs"]] == list(product((0, 1), of_a_seed))
    assert all(value > 0 for name, value in found["std"].items() if "loss" in name)
    assert summary.with_name("predictions.csv").exists() == (bool(folds) and name not in WITHOUT_PREDICTIONS)
    if name in WITHOUT_PREDICTIONS:
        assert "No predictions.csv: " in out


def test_a_stream_cannot_be_cut_into_folds(project):
    message = project.refused("-c", config_of("streaming"), "--folds", 2)
    assert "--folds" in message or "dataset" in message


# ---- their scripts ----


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("gan.compare", ["RUN", "x.png"], "model_best.pth: is of another model than this example's."),
        ("gan.compare", ["RUN", "x.gif"], "found 'x.gif'. Write a file that ends with .png"),
        ("language_model.plot", ["RUN", "x.png"], "has no epoch with a value named 'bits_per_character'"),
        ("language_model.plot", ["RUN", "none/x.png"], "found 'none/x.png'. Write a file that ends with .png"),
        ("text_classification.plot", ["RUN"], "has no epoch with a value named 'macro_f1'"),
        ("text_classification.plot", ["nowhere"], "nowhere: no run directory, such as saved/NAME/RUN_ID"),
        ("from_scratch.reference", ["RUN"], "is of another model than this example's."),
        ("streaming.make_shards", ["RUN"], "is there already. Nothing was changed."),
        ("streaming.make_shards", [], "the following arguments are required: FOLDER"),
        *((name, ["x"], "unrecognized arguments: x") for name in ("streaming.compare", "text_classification.padding")),
        *((name, ["x"], "unrecognized arguments: x") for name in ("text_classification.reference", "table")),
    ],
)
def test_what_a_script_cannot_use_is_one_message_before_its_work(project, module, arguments, message):
    script = import_module(f"examples.{module}")
    run = project.train(trainer={"epochs": 1, "monitor": "min val_loss"}) if "RUN" in arguments else None
    said = project.refused(*(run if argument == "RUN" else argument for argument in arguments), script=script)
    assert message in said
