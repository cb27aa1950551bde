"""Edges of what a person may type: huge numbers, names in any language, paths that no file can have."""

import json

import pytest
from conftest import load

import data_loader.__main__ as look_script
import test as test_script
import train as train_script

BIG = "9" * 400
SHOWN = f"'{'9' * 76}..."


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (f"optimizer.args.lr={BIG}", f"optimizer.args.lr: found {SHOWN}, which is too large. Write a number."),
        ("optimizer.args.lr=-1e999", "optimizer.args.lr: found '-1e999', which is too large. Write a number."),
        (f"trainer.epochs={BIG}", f"trainer.epochs: found {SHOWN}, which is too large. Write a whole number"),
        ("trainer.epochs=99999999999999999999", "trainer.epochs: found 1e+20. Write a whole number of at least 1."),
        (f"seed={BIG}", f"seed: found {SHOWN}, which is too large. Write a whole number of at least 0."),
        (f"model.args.hidden={BIG}", f"model.args.hidden: found {SHOWN}, which is too large."),
        (f"model.args.channels=[1,{BIG}]", "model.args.channels: found '[1,999"),
        (f"data_loader.timeout={BIG}", f"data_loader.timeout: found {SHOWN}, which is too large."),
        ("data_loader.timeout=1e300", "data_loader.timeout: found 1e+300. Write a number from 0 to 1000000 or null."),
        (f"metrics.{BIG}.name=x", "the list has items 0 to 2, found '999"),
        ("metrics.².name=x", "the list has items 0 to 2, found '²'."),
        (f"dataset.fold=1/{BIG}", "dataset.fold: found '1/999"),
    ],
)
def test_numbers_that_are_too_large(project, assignment, message):
    err = project.refused_config("--set", assignment)
    assert message in err and len(err.splitlines()) == 1 and len(err) < 700


@pytest.mark.parametrize("where", ["lr", "args", "epochs"])
def test_they_are_refused_in_a_file_and_in_the_environment_too(project, monkeypatch, where):
    config = json.loads(project.write_config().read_text())
    holder, key = {
        "lr": (config["optimizer"]["args"], "lr"),
        "args": (config["model"]["args"]["channels"], 1),
        "epochs": (config["trainer"], "epochs"),
    }[where]
    holder[key] = "${env:HUGE}"
    path = project.folder / "huge.json"
    path.write_text(json.dumps(config))
    monkeypatch.setenv("HUGE", BIG)
    assert f"found {SHOWN}, which is too large. Write " in project.refused("-c", path)
    path.write_text(json.dumps(config).replace('"${env:HUGE}"', BIG * 20))
    err = project.refused("-c", path)
    assert f"{'9' * 40}... is not finite. Write a finite number, or null." in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--folds", BIG], f"argument --folds: found {SHOWN}. Write a whole number of at least 1 and below a billion."),
        (["--overfit", "9999999999"], "argument --overfit: found '9999999999'. Write a whole number of at least 1 and"),
        (["--seeds", f"1,{BIG}"], "argument --seeds: found '1,999"),
        (["--seeds", "1,01"], "argument --seeds: found '1,01'. Write whole numbers, each once, such as 1,2,3."),
        (["--folds", "999999999"], "dataset.fold: 1438 samples cannot be cut into 999999999 folds."),
        (["-d", BIG], f"-d {'9' * 37}...: not a device."),
        (["--limit-batches", BIG], f"argument --limit-batches: found {SHOWN}. Write"),
    ],
)
def test_options_with_huge_numbers(project, arguments, message):
    assert message in project.refused_config(*arguments)


# ---- names ----


@pytest.mark.parametrize("name", ["e\u0301te\u0301", "हिन्दी", "내모델", "모델_2.1", "가" * 66, "Ünïcode", "_a"])
def test_a_name_in_any_language_is_a_folder(project, name):
    run = project.train(name=name, trainer={"epochs": 1})
    assert run.parent.name == name and load(run / "last.pth")["config"]["name"] == name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("내 모델", "it has the character ' '. Use letters and numbers of any language, and . _ + -."),
        ("a/b", "it has the character '/'. Use letters"),
        ("run\u200b1", r"it has the character '\u200b'. Use letters"),
        ("가" * 100, "it has 100 characters in 300 bytes. Write at most 100 in 200."),
        ("x" * 101, "it has 101 characters in 101 bytes. Write at most 100 in 200."),
        ("-x", "a folder's name begins with a letter, number or _, and does not end with a dot."),
        ("\u0301e", "a folder's name begins with a letter, number or _, and does not end with a dot."),
        ("x.", "a folder's name begins with a letter, number or _, and does not end with a dot."),
        ("CON", "Windows has a device of that name. Choose another one."),
    ],
)
def test_what_is_wrong_with_a_name_is_said(project, name, why):
    err = project.refused_config(name=name)
    assert " cannot name a run: " in err and err.endswith(f"{why}\n" if why.endswith(".") else err) and why in err


# ---- paths ----

PATHS = {
    "~no_such_user/x": "'~no_such_user/x{}' cannot be a path: there is no such user. Write the path of the folder.",
    "a" * 5000: " cannot be a path: it is too long. Write a shorter one.",
    "a\0b": r"'a\x00b{}' cannot be a path: it has a NUL character. Leave it out.",
}


@pytest.mark.parametrize("path", PATHS, ids=["user", "long", "NUL"])
def test_paths_that_no_file_can_have(project, path):
    config, message = project.write_config(), PATHS[path].format("")
    extending = project.folder / "extending.json"
    extending.write_text(json.dumps({"extends": path}))
    assert message in project.refused("-c", path)
    assert message in project.refused("-c", extending)
    assert message in project.refused("-r", path)
    assert message in project.refused("-r", path, "--replay")
    assert message in project.refused("-c", config, "--init-from", path)
    assert message in project.refused("-c", config, "--set", f"model.weights={path}")
    assert message in project.refused("-c", config, "--set", "dataset=MNIST", f"dataset.args.data_dir={path}")
    in_save_dir = f"trainer.save_dir: {PATHS[path].format('/digits_lenet')}" if len(path) < 100 else message
    for more in [], ["-r", "auto"], ["--profile"]:
        assert in_save_dir in project.refused("-c", config, *more, "--set", f"trainer.save_dir={path}")
    assert message in project.refused("-r", path, script=test_script)
    assert message in project.refused("-c", config, "--out", path, script=look_script)


@pytest.mark.parametrize("path", PATHS, ids=["user", "long", "NUL"])
def test_predictions_that_cannot_be_written(project, path):
    run = project.train(trainer={"epochs": 1})
    assert PATHS[path].format("") in project.refused("-r", run, "--predictions", path, script=test_script)
    folder = project.folder / "folder"
    folder.mkdir()
    message = project.refused("-r", run, "--predictions", folder, script=test_script)
    assert f"--predictions: {folder} is a folder. Name a file in it." in message


def test_a_home_folder_is_known(project, monkeypatch):
    monkeypatch.setenv("HOME", str(project.folder))
    code, out, err = project.command(look_script, "-c", project.write_config(), "--out", "~/drawn.png")
    assert code == 0 and (project.folder / "drawn.png").is_file(), err
    code, out, err = project.command(
        train_script, "-c", project.write_config(trainer={"epochs": 1, "save_dir": "~/saved"})
    )
    assert code == 0 and len(project.run_dirs()) == 1, err
