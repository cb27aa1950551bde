"""What a checkpoint holds, which files there are, and what a bad one leads to."""

import os

import pytest
import torch
from conftest import ROOT, load, run_python

import test as test_script
import train as train_script
from base.base_trainer import BaseTrainer
from base.run import Run, RunOptions
from model.model import LeNet
from utils.checkpoint import load_checkpoint
from utils.device import Devices


def names(run):
    return sorted(path.name for path in run.glob("*.pth"))


def test_it_is_plain_tensors_and_plain_values(project):
    run = project.train()
    checkpoint = torch.load(run / "last.pth", weights_only=True)
    assert list(checkpoint) == [
        "format", "epoch", "step", "model", "optimizer", "lr_scheduler", "monitor", "batches", "rng", "config",
    ]  # fmt: skip
    assert (checkpoint["format"], checkpoint["epoch"], checkpoint["step"]) == (1, 2, 40)
    assert checkpoint["config"]["optimizer"]["args"] == {"lr": 0.001}


def test_another_program_needs_torch_alone(project):
    run = project.train()
    model = LeNet(10, channels=(4, 8), hidden=16)
    model.load_state_dict(torch.load(run / "model_best.pth", weights_only=True)["model"])


def test_a_run_directory_holds_what_the_contract_says(project):
    run = project.train(trainer={"tensorboard": True})
    (events,) = run.glob("events.out.tfevents.*")
    files = {path.name for path in run.iterdir()} - {events.name}
    assert files == {
        "config.json", "environment.json", "train.log", "metrics.jsonl",
        "last.pth", "model_best.pth", "checkpoint-epoch1.pth", "checkpoint-epoch2.pth",
    }  # fmt: skip
    assert "val_loss" in (run / "metrics.jsonl").read_text()
    assert "New run in" in (run / "train.log").read_text()


def test_one_write_serves_all_names(project):
    run = project.train()
    last = os.stat(run / "last.pth")
    assert last.st_nlink == 3
    assert {os.stat(run / name).st_ino for name in ("model_best.pth", "checkpoint-epoch2.pth")} == {last.st_ino}


@pytest.mark.parametrize(
    ("keep_last", "expected"),
    [(0, []), (2, [4, 5]), (None, [1, 2, 3, 4, 5])],
)
def test_the_newest_epochs_are_kept_and_best_and_last_always(project, keep_last, expected):
    run = project.train(trainer={"epochs": 5, "keep_last": keep_last})
    assert names(run) == sorted([*(f"checkpoint-epoch{i}.pth" for i in expected), "last.pth", "model_best.pth"])


def test_the_best_is_saved_whatever_save_period_is(project):
    """Training the first epoch alone, then with a rate of 0: epoch 1 stays the best."""
    schedule = {"type": "MultiStepLR", "args": {"milestones": [1], "gamma": 0.0}}
    run = project.train(lr_scheduler=schedule, trainer={"epochs": 5, "save_period": 2})
    assert names(run) == ["checkpoint-epoch2.pth", "checkpoint-epoch4.pth", "last.pth", "model_best.pth"]
    assert (load(run / "model_best.pth")["epoch"], load(run / "last.pth")["epoch"]) == (1, 5)


def data_parallel_over(count):
    """Devices with `count` GPU numbers; without a GPU, DataParallel calls the module itself."""
    return Devices(torch.device("cpu"), tuple(range(count)))


class BareTrainer(BaseTrainer):
    def __init__(self, run, model):
        super().__init__(run)
        self.model = model
        self.forward = self.wrap(model)

    def train_step(self, batch):
        raise NotImplementedError

    def valid_step(self, batch):
        raise NotImplementedError

    def stateful(self):
        return {"model": self.model}


class NoBatches:
    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


@pytest.mark.parametrize(("saved_on", "loaded_on"), [(1, 2), (2, 1)])
def test_a_checkpoint_of_one_gpu_loads_on_two_and_the_reverse(saved_on, loaded_on):
    batches = {"train": NoBatches()}
    one, other = (
        BareTrainer(Run(RunOptions(epochs=1), batches, devices=data_parallel_over(count)), LeNet(10))
        for count in (saved_on, loaded_on)
    )
    wrapped = one if saved_on == 2 else other
    assert isinstance(wrapped.forward, torch.nn.DataParallel)
    images = torch.rand(4, 1, 8, 8)
    other.load_state_dict(one.state_dict())
    one.set_training(False), other.set_training(False)
    assert torch.equal(one.forward(images), other.forward(images))


def damaged(path):
    good = path.read_bytes()
    return {
        "empty": b"",
        "text": b"not a checkpoint",
        "html": b"<!DOCTYPE html><html>404</html>",
        "truncated": good[: len(good) // 2],
        "zero tail": good[: len(good) // 2] + bytes(len(good) // 2),
    }


@pytest.mark.parametrize("case", ["empty", "text", "html", "truncated", "zero tail"])
def test_a_damaged_file_is_one_message(project, case):
    run = project.train()
    path = run / "last.pth"
    content = damaged(path)[case]
    path.unlink()  # it shares its content with other names
    path.write_bytes(content)
    for script in (train_script, test_script):
        message = project.refused("-r", path, script=script)
        assert f"{path}: not a readable checkpoint" in message
        assert message.count("\n") == 1


def test_a_file_of_something_else_says_of_what(project):
    path = project.folder / "number.pth"
    torch.save(3, path)
    assert "number.pth: holds a int, not a checkpoint." in project.refused("-r", path)


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("section", ["model", "optimizer", "rng", "config"])
@pytest.mark.parametrize("environment", [{}, {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}])
def test_a_file_that_brings_code_is_refused(project, monkeypatch, section, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    run, marker = project.train(), project.folder / "marker"
    checkpoint = load(run / "last.pth")
    checkpoint[section] = Malicious(marker)
    bad = run / "bad.pth"
    torch.save(checkpoint, bad)
    assert "bad.pth: not a readable checkpoint" in project.refused("-r", bad)
    assert "bad.pth: not a readable checkpoint" in project.refused_config("--init-from", bad)
    assert "bad.pth: not a readable checkpoint" in project.refused("-r", bad, script=test_script)
    assert not marker.exists()


def test_weights_alone_are_no_run(project):
    path = project.folder / "weights.pth"
    torch.save(LeNet(10).state_dict(), path)
    message = project.refused("-r", path)
    assert (
        "holds no run, perhaps weights only. To start from weights: python train.py -c CONFIG --init-from FILE."
        in message
    )


def test_a_plain_state_dict_is_enough_to_start_from(project):
    path = project.folder / "weights.pth"
    torch.save(LeNet(10, channels=(4, 8), hidden=16).state_dict(), path)
    project.train("--init-from", path)


def test_a_newer_format_is_refused(project):
    run = project.train()
    path = run / "newer.pth"
    torch.save(load(run / "last.pth") | {"format": 2}, path)
    assert "has format 2; this version reads up to 1. Update it." in project.refused("-r", path)


@pytest.mark.parametrize("script", [train_script, test_script])
def test_a_run_that_is_not_there_names_its_neighbour(project, script):
    run = project.train()
    misspelt = run.parent / (run.name[:-1] + "x")
    message = project.refused("-r", misspelt, script=script)
    assert message == f"error: {misspelt}: no such run directory or checkpoint. Closest match: {run.name}.\n"


def test_a_run_without_a_checkpoint_says_so(project):
    (project.folder / "empty").mkdir()
    message = project.refused("-r", project.folder / "empty")
    assert "has no checkpoint. A run directory holds last.pth once its first epoch is saved." in message


def test_a_checkpoint_is_read_onto_the_cpu(project):
    checkpoint = load_checkpoint(project.train() / "last.pth")
    assert {tensor.device.type for tensor in checkpoint["model"].values()} == {"cpu"}


def test_a_disk_that_refuses_leaves_the_old_checkpoint_and_the_run_alive(project, monkeypatch):
    """A limit on the size of files stands in for a full disk: the system itself refuses the write."""
    script = (
        "import resource, sys; sys.path.insert(0, sys.argv[1]); import train;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, 15_000));"
        "train.main(['-c', sys.argv[2]])"
    )
    done = run_python("-c", script, ROOT, project.write_config())
    assert done.returncode == 0, done.stderr
    (run,) = project.run_dirs()
    assert "Epoch 1 could not be saved" in done.stdout and "training goes on" in done.stdout
    assert [path.name for path in run.iterdir() if path.suffix in (".pth", ".tmp")] == []
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2
