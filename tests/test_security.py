"""What a stranger's file may not do. Where it tries to run something, a marker file would show that it could."""

import json
import os
import re
import shutil

import pytest
import torch
from conftest import ROOT, load, run_python
from test_architecture import CORE, named

import data_loader.datasets
import test as test_script
from data_loader.datasets import Digits
from utils.checkpoints.checksum import write_sealed
from utils.config.files import MOST_BYTES
from utils.files import write_under_names
from utils.secrets import REDACTED, is_secret, redacted, redacted_arguments


def save_checkpoint(folder, state, names):
    """Sealed, but without a look at what it holds: as a stranger would."""
    paths = [folder / name for name in names]
    write_under_names(paths, lambda file: write_sealed(file, lambda sink: torch.save(state, sink)))


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("section", ["model", "optimizer", "rng", "config", "epoch_so_far"])
@pytest.mark.parametrize("is_sealed", [False, True])
def test_a_file_that_brings_code_is_refused_everywhere(project, monkeypatch, section, is_sealed):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    run, marker = project.train(), project.folder / "marker"
    checkpoint = load(run / "last.pth")
    checkpoint[section] = Malicious(marker)
    bad = run / "bad.pth"
    save_checkpoint(run, checkpoint, ["bad.pth"]) if is_sealed else torch.save(checkpoint, bad)
    for message in (
        project.refused("-r", bad),
        project.refused_config("--init-from", bad),
        project.refused("-r", bad, "--replay"),
        project.refused("-r", bad, script=test_script),
    ):
        assert "bad.pth: not a readable checkpoint" in message
    assert not marker.exists()
    with pytest.warns(UserWarning, match="forcing weights_only=False"):
        torch.load(bad)  # in such an environment, another program that loads the file runs its code
    assert marker.exists()


def test_of_a_run_directory_no_code_is_run_either(project):
    run, marker = project.train(), project.folder / "marker"
    for path in run.glob("*.pth"):
        checkpoint = load(path)
        path.unlink()
        save_checkpoint(run, checkpoint | {"rng": Malicious(marker)}, [path.name])
    assert "none of its checkpoints can be used" in project.refused("-r", run)
    assert "none of its checkpoints can be used" in project.refused("-c", project.write_config(), "-r", "auto")
    assert not marker.exists()


MODULE = """
import pathlib
from torch import nn
pathlib.Path("marker").touch()
class Net(nn.Flatten):
    pass
"""


@pytest.fixture
def copy(tmp_path):
    """The project in a folder of its own, with a module that does something when it is imported."""
    for name in ("base", "data_loader", "extras", "logger", "model", "trainer", "utils"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "test.py", "tests/config.json"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "__init__.py").touch()
    (tmp_path / "deploy" / "now.py").write_text(MODULE)
    return tmp_path


def test_a_checkpoints_config_imports_nothing(copy):
    marker, settings = copy / "marker", ["--set", "trainer.epochs=1", "trainer.early_stop=null", "name=net"]
    done = run_python("train.py", "-c", "config.json", *settings, cwd=copy)
    (run,) = (copy / "saved" / "net").iterdir()
    checkpoint = load(run / "last.pth")
    checkpoint["config"]["model"] = {"type": "deploy.now.Net", "args": {}}
    save_checkpoint(run, checkpoint, ["last.pth"])
    done = run_python("train.py", "-r", "saved/net/" + run.name, "--set", "trainer.epochs=2", cwd=copy)
    assert done.returncode == 2 and "model.type: cannot change when a run is resumed" in done.stderr

    save_checkpoint(copy, checkpoint, ["carried.pth"])
    done = run_python("test.py", "-r", "carried.pth", cwd=copy)
    assert done.returncode == 2
    assert done.stderr == (
        "error: model.type: the checkpoint itself names 'deploy.now.Net', in a module of yours. "
        "If you trust it: --set model.type=deploy.now.Net\n"
    )
    assert not marker.exists()
    run_python("test.py", "-r", "carried.pth", "--set", "model.type=deploy.now.Net", cwd=copy)
    assert marker.exists()


@pytest.mark.parametrize("key", ["loss", "metrics"])
def test_nor_does_a_bare_string_in_it(project, key):
    run = project.train()
    checkpoint = load(run / "last.pth")
    checkpoint["config"][key] = {"loss": "deploy.now.f", "metrics": ["deploy.now.f"]}[key]
    save_checkpoint(project.folder, checkpoint, ["carried.pth"])
    assert "the checkpoint itself names 'deploy.now.f'" in project.refused(
        "-r", project.folder / "carried.pth", script=test_script
    )


def test_a_config_of_any_size_is_not_read(project):
    path = project.write_config()
    path.write_text(path.read_text() + " " * MOST_BYTES)
    assert f"is no config: larger than {MOST_BYTES:,} bytes." in project.refused("-c", path)


@pytest.mark.parametrize(
    "name", ["../../x", "/abs", "a/../../b", "a\0b", "a\nb", "x" * 300, "-leading", "CON", "nul.txt"]
)
def test_a_name_leads_nowhere_else(project, name):
    assert "cannot name a run: " in project.refused_config(name=name)


def test_links_are_not_followed(project):
    run = project.train(trainer={"epochs": 2, "keep_last": 1})
    outside = project.folder / "outside"
    outside.write_bytes(b"precious")
    (run / "model_best.pth").unlink()
    for name in ("model_best.pth", "checkpoint-epoch1.pth"):
        (run / name).symlink_to(outside)
    project.resume(run, "--set", "trainer.epochs=4")
    assert outside.read_bytes() == b"precious"
    assert (run / "checkpoint-epoch1.pth").is_symlink(), "not ours to delete"
    assert not (run / "model_best.pth").is_symlink() and load(run / "model_best.pth")["epoch"] == 4


# ---- secrets ----


class Remote(Digits):
    """The digits, from a server that wants to know who asks."""

    seen = []

    def __init__(self, split, api_key, login=None):
        super().__init__(split)
        self.seen.append((api_key, login))


SECRET, PASSWORD = "hunter2hunter2", "correct-horse"
ARGS = {"api_key": SECRET, "login": {"user": "me", "password": PASSWORD}}


def test_a_secret_is_used_but_written_nowhere(project, write_into, monkeypatch):
    write_into(data_loader.datasets, Remote)
    monkeypatch.setattr("sys.argv", ["train.py", "--set", f"dataset.args.api_key={SECRET}"])
    run = project.train(dataset={"type": "Remote", "args": ARGS}, trainer={"tensorboard": True})
    assert Remote.seen[0] == (SECRET, ARGS["login"])
    for path in run.iterdir():
        content = path.read_bytes()
        assert SECRET.encode() not in content and PASSWORD.encode() not in content, path
    config = json.loads((run / "config.json").read_text())
    assert config["dataset"]["args"] == {"api_key": REDACTED, "login": {"user": "me", "password": REDACTED}}
    assert load(run / "last.pth")["config"]["dataset"] == config["dataset"]
    assert f"dataset.args.api_key={REDACTED}" in json.loads((run / "environment.json").read_text())[0]["argv"]

    message = project.refused("-r", run, "--set", "trainer.epochs=3")
    assert "dataset.args.api_key: a secret, which no file keeps. Give it again: --set dataset.args.api_key=" in message
    secrets = ["--set", f"dataset.args.api_key={SECRET}", f"dataset.args.login.password={PASSWORD}"]
    project.resume(run, "--set", "trainer.epochs=3", *secrets)
    assert Remote.seen[-1] == (SECRET, ARGS["login"])
    project.test("-r", run, *secrets)
    code, out, _ = project.command(__import__("train"), "-c", project.folder / "config.json", "-r", "auto")
    assert code == 0 and "is finished" in out
    assert SECRET.encode() not in b"".join(path.read_bytes() for path in run.iterdir())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["a.token=X"], ["a.token=<redacted>"]),
        (["a.token.0=X"], ["a.token.0=<redacted>"]),
        (['dataset={"args": {"token": "X"}}'], ['dataset={"args": {"token": "<redacted>"}}']),
        (["--token", "X", "--lr", "1"], ["--token", "<redacted>", "--lr", "1"]),
        (["--token=X"], ["--token=<redacted>"]),
        (["-c", "a=b.json", "x=3"], ["-c", "a=b.json", "x=3"]),
    ],
)
def test_a_command_line_is_written_without_them(arguments, expected):
    assert redacted_arguments(arguments) == expected


def test_whatever_stands_below_a_secret_is_one():
    config = {"credentials": {"user": "u", "pass": "p"}, "token": ["a", {"x": "y"}], "password": 1234, "pad_token": "_"}
    assert redacted(config) == dict.fromkeys(("credentials", "token", "password"), REDACTED) | {"pad_token": "_"}


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("token", True), ("hf_token", True), ("wandb-token", True), ("accessToken", True), ("password", True),
        ("api_key", True), ("apikey", True), ("API_KEY", True), ("client_secret", True), ("credentials", True),
        ("private_key", True), ("passphrase", True), ("db_passwd", True),
        ("pad_token", False), ("mask_token", False), ("num_tokens", False), ("tokenizer", False), ("key", False),
        ("monitor", False), ("passes", False), ("secretary", False),
    ],
)  # fmt: skip
def test_what_counts_as_a_secret(key, expected):
    assert is_secret(key) == expected


# ---- what no file of the project does ----

FORBIDDEN = (
    r"pickle\.loads?\b|Unpickler|joblib|dill\b|shelve|marshal|allow_pickle=True|weights_only=False",
    r"\beval\(|\bexec\(|shell=True|os\.system|os\.popen",
    r"yaml\.load\b|FullLoader|UnsafeLoader",
    r"tarfile|unpack_archive|\.extractall\(|\.extract\(",  # archives are unpacked by torchvision, with checksums
    r"MAX_IMAGE_PIXELS",  # Pillow's limit on the size of pictures stays on
    r"0\.0\.0\.0",
)


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_no_file_does_what_lets_a_stranger_in(pattern):
    found = [named(path) for path in CORE if re.search(pattern, path.read_text(encoding="utf-8"))]
    assert found == []


@pytest.mark.parametrize("option", ["0; touch marker", "$(touch marker)", "__import__('os').system('touch marker')"])
def test_a_device_is_no_code(project, monkeypatch, option):
    monkeypatch.chdir(project.folder)
    assert "not a device" in project.refused("-c", project.write_config(), "-d", option)
    assert "n_gpu: found" in project.refused_config(n_gpu=option)
    assert not (project.folder / "marker").exists()


def test_text_from_a_config_is_code_to_tensorboard_and_no_markup(project):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    markup = "<script>alert(1)</script> # head ```"
    run = project.train(
        metrics=[{"type": "accuracy", "name": markup}],
        dataset={"type": "Digits", "args": {"train_transform": [{"type": "RandomShift", "args": {"padding": 1}}]}},
        trainer={"tensorboard": True, "epochs": 1},
    )
    events = EventAccumulator(str(run)).Reload()
    (text,) = events.Tensors("config/text_summary")
    lines = text.tensor_proto.string_val[0].decode().splitlines()
    assert all(line.startswith("    ") for line in lines) and "<script>" in "".join(lines)


def test_what_looks_like_a_name_in_a_carried_checkpoint_is_none_where_patterns_stand(project):
    run = project.train(model={"type": "LeNet", "args": {"num_classes": 10}, "freeze": "conv1.weight"})
    carried = project.folder / "carried.pth"
    carried.write_bytes((run / "last.pth").read_bytes())
    assert project.test("-r", carried)[0]["accuracy"] >= 0


def test_a_config_with_keys_that_no_file_can_have(project):
    run = project.train()
    checkpoint = load(run / "last.pth")
    checkpoint["config"]["model"]["args"][1] = 2
    save_checkpoint(project.folder, checkpoint, ["carried.pth"])
    message = project.refused("-r", project.folder / "carried.pth", script=test_script)
    assert "config: the checkpoint's has keys that are no text." in message
