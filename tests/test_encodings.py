"""Screens and files of any encoding: no message is lost, what is JSON stays JSON, and files are UTF-8."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT, metrics_of

NAME = "고양이é"


@pytest.fixture
def run(project):
    """Run a command with this encoding of its streams, on a config with such a name: exit code, stdout, stderr."""
    config = project.write_config(name=NAME, trainer={"epochs": 1})

    def run(encoding, script, *arguments, **variables):
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONIOENCODING": encoding} | variables
        command = [sys.executable, script, *map(str, arguments or ("-c", config))]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=100)
        return done.returncode, done.stdout.decode(encoding), done.stderr.decode(encoding)

    run.config = config
    return run


@pytest.mark.parametrize("encoding", ["ascii", "cp949", "cp1252", "utf-16"])
def test_print_config_is_json_in_any_encoding(run, encoding):
    code, out, err = run(encoding, "train.py", "-c", run.config, "--print-config")
    assert code == 0, err
    assert json.loads(out)["name"] == NAME


@pytest.mark.parametrize(
    ("encoding", "shown", "plus_minus"),
    [
        ("ascii", r"\uace0\uc591\uc774\u00e9", r"\u00b1"),
        ("cp949", r"고양이\u00e9", "±"),
        ("cp1252", r"\uace0\uc591\uc774é", "±"),
    ],
)
def test_no_message_is_lost_and_the_files_are_utf8(run, project, encoding, shown, plus_minus):
    code, out, err = run(encoding, "train.py")
    assert code == 0 and err == ""
    (folder,) = project.run_dirs()
    assert out.count(shown) > 0 and "New run in " in out and "Finished: " in out
    log = (folder / "train.log").read_text(encoding="utf-8")
    assert f"/{NAME}/" in log and f"/{NAME}/" in str(folder)
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["name"] == NAME
    assert [line["epoch"] for line in metrics_of(folder)] == [1]
    code, out, err = run(encoding, "test.py", "-r", folder)
    assert code == 0 and shown in out and json.loads(out.splitlines()[-1])["loss"] > 0
    code, out, err = run(encoding, "train.py", "-c", f"±{NAME}.json")
    assert code == 2 and err.startswith(f"error: {plus_minus}{shown}.json: no such config file.")


def test_a_name_that_is_no_unicode_is_written_as_json_has_it(run, project):
    """A path of bytes that are no UTF-8, as Linux allows them."""
    folder = os.fsdecode(os.fsencode(project.folder) + b"/\xff")
    arguments = ("-c", run.config, "--set", f"trainer.save_dir={folder}")
    code, out, err = run("utf-8", "train.py", *arguments, "--print-config")
    assert code == 0 and json.loads(out)["trainer"]["save_dir"] == folder, err
    code, out, err = run("utf-8", "train.py", *arguments)
    assert code == 0 and "Traceback" not in err and r"\udcff" in out, err
    (saved,) = (path for path in os.scandir(f"{folder}/{NAME}"))
    with open(f"{saved.path}/config.json", encoding="utf-8") as file:
        assert json.load(file)["trainer"]["save_dir"] == folder
    with open(f"{saved.path}/train.log", encoding="utf-8") as file:
        assert r"\udcff" in file.read()


def test_a_system_that_cannot_name_the_folder_says_so(run, project):
    """An old locale without UTF-8 mode: its file names are ASCII."""
    old = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    code, _, err = run("ascii", "train.py", **old)
    assert code == 2 and "Traceback" not in err
    assert " cannot be a path: this system's file names are ASCII. Set PYTHONUTF8=1, or use other characters." in err
