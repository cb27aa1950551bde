"""What a checkpoint holds, which files there are, and when."""

import os
import time

import pytest
import torch
from conftest import load

import train as train_script
from base.base_trainer import BaseTrainer
from base.checkpoints import Checkpoints
from base.run import Run
from logger.writers import Writers
from model.model import LeNet
from utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from utils.checkpoints.lock import RunLock
from utils.config.options import RunOptions
from utils.distributed.devices import Devices


def names(run):
    return sorted(path.name for path in run.glob("*.pth"))


def test_it_is_plain_tensors_and_plain_values(project):
    run = project.train()
    checkpoint = torch.load(run / "last.pth", weights_only=True)
    assert list(checkpoint) == [
        "format", "epoch", "step", "model", "optimizer", "lr_scheduler", "parameters",
        "monitor", "batches", "epoch_so_far", "rng", "other_ranks", "config",
    ]  # fmt: skip
    assert (checkpoint["format"], checkpoint["epoch"], checkpoint["step"]) == (2, 2, 40)
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
        "config.json", "environment.json", "train.log", "metrics.jsonl", ".lock",
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
    dataset, samples = None, 0

    def steps_per_pass(self):
        return 1

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


@pytest.mark.skipif(torch.cuda.is_available(), reason="where there are GPUs, DataParallel takes no numbers without one")
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


def test_what_a_kill_in_mid_save_leaves_behind_is_cleaned_up(project):
    run = project.train()
    (run / ".last.pth.tmp").write_bytes(b"half")
    project.resume(run, "--set", "trainer.epochs=3")
    assert not list(run.glob(".*.tmp"))


def test_the_best_has_its_name_before_the_last_one_knows_of_it(project, monkeypatch):
    """A kill between the two names: what `last.pth` says is best is there."""
    import utils.files as files

    run = project.train(trainer={"epochs": 1})
    replace = os.replace

    def killed(source, target):
        if target.name == "last.pth":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", killed)
    assert project.command(train_script, "-r", run, "--set", "trainer.epochs=2")[0] == 130
    monkeypatch.undo()
    assert load(run / "last.pth")["epoch"] == 1 and load(run / "model_best.pth")["epoch"] == 2
    project.resume(run)
    assert load(run / "model_best.pth")["epoch"] == load(run / "last.pth")["monitor"]["best_values"]["epoch"] == 2


def test_a_best_that_could_not_be_saved_is_none(tmp_path):
    class Failing:
        def end_epoch(self, state, epoch, is_best, is_end):
            return epoch != 2

        def check_lock(self):
            pass

        def close(self):
            pass

    class Scripted(BareTrainer):
        def _train_phase(self):
            self.epoch += 1

        def _values_of_epoch(self, progress, start):
            values = {"score": {1: 1.0, 2: 3.0, 3: 2.0}[self.epoch]}
            clock = dict.fromkeys(("items_per_second", "data_wait_share", "seconds"), 0.0)
            return {"epoch": self.epoch, "step": 0} | values | clock

    options = RunOptions(epochs=3, monitor="max score")
    trainer = Scripted(Run(options, {"train": NoBatches()}), LeNet(10))
    trainer.train(Failing(), Writers())
    assert trainer.monitor.best_epoch == 3


def test_going_back_drops_what_came_later(project):
    run = project.train(trainer={"epochs": 5, "keep_last": None})
    assert load(run / "model_best.pth")["epoch"] == 5
    project.resume(run / "checkpoint-epoch2.pth", "--set", "trainer.epochs=3", "trainer.min_delta=5")
    assert [path.name for path in sorted(run.glob("checkpoint*"))] == [f"checkpoint-epoch{i}.pth" for i in (1, 2, 3)]
    assert load(run / "model_best.pth")["epoch"] == load(run / "last.pth")["monitor"]["best_values"]["epoch"] == 2


def test_a_checkpoint_is_read_onto_the_cpu(project):
    checkpoint = load_checkpoint(project.train() / "last.pth")
    assert {tensor.device.type for tensor in checkpoint["model"].values()} == {"cpu"}


def test_a_power_failure_finds_the_old_file_or_the_new_one(tmp_path, monkeypatch):
    """The content is on the disk before it has its name, and its name before the save is over."""
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def noted(*arguments, name=name, real=real):
            first = arguments[0]
            path = os.readlink(f"/proc/self/fd/{first}") if name == "fsync" else first
            calls.append((name, os.path.splitext(path)[1] or os.path.basename(path)))
            return real(*arguments)

        monkeypatch.setattr(os, name, noted)
    save_checkpoint(tmp_path, {"model": {}}, ["last.pth"])
    assert calls == [("fsync", ".tmp"), ("replace", ".tmp"), ("fsync", tmp_path.name)]


def test_minutes_are_counted_from_the_last_save(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    checkpoints = Checkpoints(
        tmp_path, RunOptions(epochs=1, save_minutes=1, save_steps=70, keep_last=None), {}, RunLock()
    )
    for step in range(1, 200):
        clock[0] += 1.0
        checkpoints.end_step(lambda: {"model": {}}, step)
    assert names(tmp_path) == sorted([*(f"checkpoint-step{step}.pth" for step in (60, 70, 130, 140)), "last.pth"])
