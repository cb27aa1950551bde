"""A failure costs itself only: the training phase before it, the other runs and the other pictures stay."""

import json

import pytest
import torch
from conftest import assert_same, load, metrics_of

import train as train_script
import trainer.trainer


class FailingOnce(trainer.trainer.Trainer):
    """Fails at a place of the second epoch, the first time."""

    place, has_failed = "", False

    def fail_at(self, place):
        if self.epoch == 2 and type(self).place == place and not FailingOnce.has_failed and not self.is_rehearsal:
            FailingOnce.has_failed = True
            raise KeyError("no such figure")

    def train_step(self, batch):
        self.fail_at("train")
        return super().train_step(batch)

    def valid_step(self, batch):
        self.fail_at("valid")
        return super().valid_step(batch)

    def on_epoch_end(self, values):
        self.fail_at("end")
        super().on_epoch_end(values)


@pytest.mark.parametrize("place", ["valid", "end"])
def test_what_fails_after_the_training_phase_leaves_it(project, write_into, monkeypatch, place):
    write_into(trainer.trainer, FailingOnce)
    settings = {"trainer": {"type": "FailingOnce", "epochs": 3}, "data_loader": {"batch_size": 256}}
    monkeypatch.setattr(FailingOnce, "has_failed", True)
    whole = project.train(**settings)
    monkeypatch.setattr(FailingOnce, "has_failed", False)
    monkeypatch.setattr(FailingOnce, "place", place)
    code, out, err = project.command(train_script, "-c", project.write_config(**settings))
    run = project.run_dirs()[-1]
    assert code == 1 and len(err.splitlines()) <= 6 and "Traceback" not in err
    assert "error: KeyError: 'no such figure'" in err and "test_failures_cost_themselves.py:" in err
    assert f"The training phase of epoch 2 is saved. To go on: python train.py -r {run}" in out
    assert "Traceback (most recent call last)" in (run / "train.log").read_text(encoding="utf-8")
    assert load(run / "last.pth")["epoch_so_far"]["trained"]
    project.resume(run)
    assert_same(load(whole / "last.pth"), load(run / "last.pth"))
    assert metrics_of(whole) == metrics_of(run)


def test_within_the_training_phase_the_checkpoint_before_stays(project, write_into, monkeypatch):
    write_into(trainer.trainer, FailingOnce)
    monkeypatch.setattr(FailingOnce, "has_failed", False)
    monkeypatch.setattr(FailingOnce, "place", "train")
    code, _, _ = project.command(train_script, "-c", project.write_config(trainer={"type": "FailingOnce"}))
    assert code == 1 and load(project.run_dirs()[-1] / "last.pth")["epoch"] == 1


class FailingSeed(trainer.trainer.Trainer):
    """Fails in the run with one seed, in some way."""

    way = ""

    def train_step(self, batch):
        if self.run.seed == 2 and not self.is_rehearsal:
            if type(self).way == "raise":
                raise KeyError("seed 2")
            if type(self).way == "nan":
                return trainer.trainer.StepResult({"loss": torch.tensor(float("nan"))}, 1)
        return super().train_step(batch)


@pytest.mark.parametrize("way", ["raise", "nan"])
def test_a_run_that_fails_does_not_end_the_others(project, write_into, monkeypatch, way):
    write_into(trainer.trainer, FailingSeed)
    monkeypatch.setattr(FailingSeed, "way", way)
    config = project.write_config(trainer={"type": "FailingSeed", "epochs": 1})
    code, out, err = project.command(train_script, "-c", config, "--seeds", "1,2,3")
    assert code == 1 and "Traceback" not in err
    assert "error: 1 of 3 runs failed (seed 2). The same command tries them again." in err
    folder = project.run_dirs()[0].parent
    rows = json.loads((folder / "summary.json").read_text())["runs"]
    assert [row["seed"] for row in rows] == [1, 2, 3] and "error" in rows[1] and "val_loss" in rows[2]
    monkeypatch.setattr(FailingSeed, "way", "")
    code, out, err = project.command(train_script, "-c", config, "--seeds", "1,2,3")
    assert code == 0, err
    assert all("val_loss" in row for row in json.loads((folder / "summary.json").read_text())["runs"])
    assert sum(path.is_dir() for path in project.run_dirs()) == 3


def test_a_config_that_the_first_run_refuses_ends_them(project):
    config = project.write_config(model={"type": "LeNet", "args": {"num_classes": 3}})
    code, _, err = project.command(train_script, "-c", config, "--seeds", "1,2,3")
    assert (
        code == 2
        and "The targets are from 0 to 9, and the model returns 3 scores for each sample" in err
        and project.run_dirs() == []
    )
