"""Every command, config, recipe and folder in the README is executed or looked at here."""

import json
import re
import shutil

import jsonschema
import pytest
import torch
from conftest import ROOT, assert_same, load, metrics_of, run_python
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from utils.config.lookup import KINDS

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COPIED = (
    "base",
    "data_loader",
    "extras",
    "logger",
    "model",
    "trainer",
    "utils",
    "train.py",
    "test.py",
    "config.json",
    "configs",
)

# Runs commands one after another in one process, since each start imports torch again. RUN is the first run made.
DRIVER = """
import json, pathlib, shlex, sys
import test, train
from utils.exit_codes import exit_code_of

for line in json.load(sys.stdin):
    program, script, *arguments = shlex.split(line, comments=True)
    runs = sorted(pathlib.Path("saved/digits_lenet").glob("*"))
    arguments = [str(runs[0]) if argument == "RUN" else argument for argument in arguments]
    try:
        code = exit_code_of(lambda: {"train.py": train, "test.py": test}[script].main(arguments))
    except SystemExit as stop:  # argparse
        code = stop.code
    if code:
        sys.exit(f"exit code {code}: {line}")
"""


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def commands():
    return [line for block in blocks("sh") for line in block.splitlines()]


@pytest.fixture
def copy(tmp_path):
    """The code of the project in a folder of its own, where runs may be made and files changed."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, tmp_path)
    shutil.copy(ROOT / "tests" / "config.json", tmp_path)
    return tmp_path


def drive(folder, lines):
    done = run_python("-c", DRIVER, cwd=folder, input=json.dumps(lines))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_first_command_trains_and_reaches_what_the_readme_says(copy):
    """The environment's part of both lines is the same, and CI runs it from the second one as it stands."""
    (train,) = [line for line in commands() if "venv" in line and "train.py" in line]
    (test,) = [line for line in commands() if "venv" in line and "pytest" in line]
    setup, install, program = train.split(" && ")
    assert test.split(" && ")[0] == setup == "python3 -m venv .venv"
    assert test.split(" && ")[1] == install.replace("requirements.txt", "requirements-dev.txt")
    out = drive(copy, [program.removeprefix(".venv/bin/"), "python test.py -r RUN"])
    assert json.loads(out.splitlines()[-1])["accuracy"] >= 0.97


def test_the_powershell_lines_are_twins_of_the_others():
    (block,) = blocks("powershell")
    twins = [
        line.replace("; ", " && ").replace("py -m venv", "python3 -m venv").replace(".venv\\Scripts\\", ".venv/bin/")
        for line in block.splitlines()
    ]
    assert twins == [line for line in commands() if "venv" in line]


def test_every_other_command_runs(copy):
    lines = [
        line.split("#")[0] + (" --set trainer.epochs=2 trainer.early_stop=null" if " -c " in line else "")
        for line in commands()
        if line.startswith(("python train.py", "python test.py")) and "configs/" not in line
    ]
    assert len(lines) >= 9
    assert "epoch 40 of 40" in drive(copy, lines)
    programs = {" ".join(line.split()[:2]) for line in commands() if "venv" not in line}
    # below, tests/test_new_project.py and tests/test_look.py
    elsewhere = {"tensorboard --logdir", "python new_project.py", "torchrun --standalone", "python -m"}
    assert programs - elsewhere == {"python train.py", "python test.py"}


def test_several_processes_start_as_the_readme_says(copy):
    (line,) = [line for line in commands() if line.startswith("torchrun")]
    device = ["-d", "cpu"] if torch.cuda.device_count() == 1 else []  # which two processes cannot share
    arguments = [*line.split()[1:], *device, "--set", "trainer.epochs=2"]
    done = run_python("-m", "torch.distributed.run", *arguments, cwd=copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 processes, batch_size 64: 32 samples each." in done.stdout and "epoch 2 of 2" in done.stdout


def test_tensorboard_starts_as_the_readme_says():
    done = run_python("-m", "tensorboard.main", "--version")
    assert re.match(r"2\.\d+", done.stdout)


def test_every_config_that_a_command_names_is_there():
    named = set(re.findall(r"-c (\S+\.json)", TEXT))
    assert named and all((ROOT / name).is_file() for name in named)


FILES = re.compile(r"\*\*A[^*]*\*\*, in `([^`]+)`:?.*?```python\n(.*?)```\s+```json\n(.*?)```", re.DOTALL)


def test_the_recipes_work_as_they_stand(copy):
    recipes = FILES.findall(TEXT)
    assert [name for name, _, _ in recipes] == [
        "model/model.py", "data_loader/datasets.py", "model/loss.py", "model/metric.py", "trainer/trainer.py",
    ]  # fmt: skip
    lines = []
    for i, (name, code, change) in enumerate(recipes):
        path = copy / name
        path.write_text(path.read_text() + "\n\n" + code)
        config = json.loads((ROOT / "tests" / "config.json").read_text())
        config["trainer"]["epochs"] = 2
        if name == "data_loader/datasets.py":
            config["metrics"] = ["accuracy"]
        config |= json.loads(change)
        (copy / f"recipe{i}.json").write_text(json.dumps(config | {"name": f"recipe{i}"}))
        lines.append(f"python train.py -c recipe{i}.json")
    drive(copy, lines)
    for i in range(len(recipes)):
        (metrics,) = (copy / "saved" / f"recipe{i}").glob("*/metrics.jsonl")
        assert len(metrics.read_text().splitlines()) == 2
    assert "val_MacroRecall" in next((copy / "saved" / "recipe3").glob("*/metrics.jsonl")).read_text()


# ---- docs/trainer.md ----

PAGE = (ROOT / "docs" / "trainer.md").read_text(encoding="utf-8")


def write_example(copy, name, count):
    """Put the page's files of an example into a copy of the project."""
    files = dict(re.findall(rf"^`(examples/{name}/\S+)`:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))
    assert len(files) == count and len(files[f"examples/{name}/trainer.py"].splitlines()) < 60
    (copy / "examples" / name).mkdir(parents=True)
    (copy / "examples" / "__init__.py").touch()
    for file, text in files.items():
        (copy / file).write_text(text)


def test_the_trainer_of_the_page_runs_and_goes_on_as_if_it_had_not_stopped(copy):
    write_example(copy, "denoising", 3)
    check, train = re.search(r"```sh\n(.*?)```", PAGE, re.DOTALL)[1].splitlines()
    whole, begun = f"{train} --set trainer.epochs=3", f"{train} --set trainer.epochs=1 name=digits_lenet"
    more, score = "python train.py -r RUN --set trainer.epochs=3", "python test.py -r RUN --predictions scores.csv"
    drive(copy, [check, whole, begun, more, score])
    runs = [next((copy / "saved" / name).iterdir()) for name in ("digits_denoising", "digits_lenet")]
    lines = [metrics_of(run) for run in runs]
    assert lines[0] == lines[1] and len(lines[0]) == 3
    assert_same(load(runs[0] / "last.pth")["model"], load(runs[1] / "last.pth")["model"])
    assert {"loss", "error", "class_loss", "accuracy", "val_error", "val_class_loss"} <= set(lines[0][0])
    assert lines[0][-1]["val_error"] < lines[0][0]["val_error"]
    assert (copy / "scores.csv").read_text().count("\n") == 1 + 359
    events = EventAccumulator(str(runs[0])).Reload()
    assert [event.step for event in events.Images("restored")] == [20, 40, 60]


def test_the_student_of_the_page_learns_from_a_trained_model(copy, monkeypatch):
    write_example(copy, "distillation", 2)
    drive(copy, ["python train.py -c config.json --set trainer.epochs=3 trainer.early_stop=null"])
    teacher = next((copy / "saved" / "digits_lenet").iterdir())
    (line,) = re.findall(r"^TEACHER=\S+ (python .*)$", PAGE, re.MULTILINE)
    for name, weights in {"of_run": teacher, "of_file": teacher / "model_best.pth"}.items():
        monkeypatch.setenv("TEACHER", str(weights))
        drive(copy, [f"{line} --set trainer.epochs=3 name={name}"])
    runs = [next((copy / "saved" / name).iterdir()) for name in ("of_run", "of_file")]
    assert_same(*(load(run / "last.pth")["model"] for run in runs))
    lines = metrics_of(runs[0])
    for name, sign in {"val_divergence": -1, "val_agreement": 1}.items():
        assert sign * lines[-1][name] > sign * lines[0][name]
    assert lines[0]["val_loss"] == pytest.approx(0.7 * lines[0]["val_divergence"] + 0.3 * lines[0]["val_class_loss"])


def test_the_folder_tree_is_true():
    (tree,) = blocks("text")
    shown = {line.split()[0] for line in tree.splitlines()}
    assert all((ROOT / name).exists() for name in shown)


def test_the_config_of_the_readme_runs_and_keeps_to_the_schema(copy):
    (text,) = [block for block in blocks("json") if '"extends"' in block]
    (copy / "own.json").write_text(text)
    settings = "--set trainer.epochs=4 trainer.monitor=off trainer.early_stop=null"
    out = drive(copy, [f"python train.py -c own.json {settings}", "python train.py -c own.json --fast-dev-run"])
    assert "model.init: conv1.weight" in out and "model.freeze: 320 of 35,914 parameters do not train" in out
    assert out.count("optimizer.groups.0: ") == 2 and "every part works" in out
    (run,) = (copy / "saved" / "digits_gelu").iterdir()
    assert [line["lr"] for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())] == pytest.approx(
        [0.0003, 0.0012, 0.0021, 0.003]
    )
    assert "model.init: conv1.weight" in (run / "train.log").read_text()
    schema = json.loads((ROOT / "schema" / "config.schema.json").read_text())
    jsonschema.validate(json.loads(text), schema, jsonschema.Draft7Validator)


def test_the_libraries_it_names_are_those_of_the_code():
    paragraph = TEXT[TEXT.index("## The config") :].split("\n\n")[1]
    named = set(re.findall(r"`(torch[a-z0-9_.]*)`", paragraph))
    assert len(named) >= 7 and named <= {library for kind in KINDS.values() for library in kind.libraries}


def test_links_lead_to_files():
    for link in re.findall(r"\]\((?!http)([^)]+)\)", TEXT):
        assert (ROOT / link).exists(), link


def test_make_schema_writes_what_is_there(copy):
    line = re.search(r"^schema:\n\t\$\(PYTHON\) (-m .*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    (copy / "docs").mkdir()
    done = run_python(*line.split(), cwd=copy)
    assert done.returncode == 0 and (copy / "schema" / "config.schema.json").is_file()
    assert (copy / "docs" / "config.md").read_text() == (ROOT / "docs" / "config.md").read_text()


def test_make_faults_selects_what_it_says():
    line = re.search(r"^faults:\n\t\$\(PYTHON\) (-m pytest .*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    files = [f"tests/test_{name}.py" for name in ("kills", "signals", "resume")]
    done = run_python(*line.split(), "--collect-only", *files)
    assert done.returncode == 0
    assert "test_kills" in done.stdout and "test_signals" in done.stdout and "test_resume" not in done.stdout
