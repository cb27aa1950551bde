"""What is not finite stops a run at a step that is named, leaves the checkpoint before, and can be looked at again."""

import gc
import json
import math
import weakref

import pytest
import torch
from conftest import load
from torch import nn

import data_loader.datasets
import model.metric
import model.model
import train as train_script
import trainer.trainer
from base.finite import CHECK_STEPS, FiniteWatch
from data_loader.datasets import Digits
from logger.means import RunningMeans, StepResult

SHORT = {"epochs": 3, "log_steps": 1000}


class Fuse(nn.Module):
    """Passes its input on until it has been trained on so many batches."""

    at = 30
    factor = math.inf
    calls = 0

    def __init__(self):
        super().__init__()
        self.register_buffer("batches", torch.tensor(0))

    def forward(self, inputs):
        if self.training:
            self.batches += 1
            Fuse.calls += 1
        return inputs * self.factor if self.training and self.batches >= self.at else inputs


class Fused(model.model.LeNet):
    """LeNet with a fuse in the middle."""

    def __init__(self):
        super().__init__(10, channels=(4, 8), hidden=16)
        self.conv2 = nn.Sequential(self.conv2, Fuse())


class InfiniteGradient(nn.Module):
    """The identity, but for its gradient, which is infinite or not a number once the weight has come to 0."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)
        self.fuse = Fuse()
        self.fuse.factor = 0.0

    def forward(self, images):
        outputs = self.layer(images.flatten(1))
        extra = (self.fuse(outputs) ** 2).sum(dim=1, keepdim=True).sqrt()
        return torch.log_softmax(outputs + extra - extra.detach(), dim=1)


@pytest.fixture
def stop(project, write_into):
    """A run that must stop with exit code 1; its directory, and what it said in the end."""

    def run(name="Fused", *classes, **sections):
        for cls in (Fused, InfiniteGradient, *classes):
            write_into(model.model, cls)
        sections["trainer"] = SHORT | sections.get("trainer", {})
        code, out, err = project.command(train_script, "-c", project.write_config(model=name, **sections))
        assert code == 1, out + err
        assert "Traceback" not in out + err
        (run,) = project.run_dirs()
        return run, out + err

    return run


def all_finite(checkpoint):
    return all(torch.isfinite(value).all() for value in checkpoint["model"].values())


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint_before(stop, project):
    schedule = {"type": "StepLR", "interval": "step", "args": {"step_size": 29, "gamma": 0.1}}
    run, said = stop(lr_scheduler=schedule)
    assert "error: step 30 (batch 10 of epoch 2, lr 0.0001): loss is nan." in said
    assert f"To look: python train.py -r {run} --replay" in said
    checkpoint = load(run / "last.pth")
    assert (checkpoint["epoch"], checkpoint["step"]) == (1, 20) and all_finite(checkpoint)
    record = json.loads((run / "failure.json").read_text())
    assert record == {
        "step": 30, "epoch": 2, "batch": 10, "learning_rates": {"lr": pytest.approx(1e-4)}, "name": "loss",
        "value": "nan",
    }  # fmt: skip


def test_it_is_found_within_some_steps_wherever_values_are_read(stop, monkeypatch):
    monkeypatch.setattr(Fuse, "calls", 0)
    _, said = stop(trainer={"epoch_steps": 200, "epochs": 1})
    assert "step 30 (batch 30 of epoch 1" in said
    assert Fuse.calls == 50 == CHECK_STEPS


@pytest.mark.parametrize("saving", [{"save_steps": 33}, {"save_minutes": 1e-9}])
def test_nothing_that_is_not_finite_is_ever_saved(stop, saving):
    run, said = stop(trainer={"epoch_steps": 45, **saving})
    assert "step 30 " in said
    assert all(all_finite(load(path)) and load(path)["step"] < 30 for path in run.glob("*.pth"))


class Silent(trainer.trainer.Trainer):
    """Reports a loss that is always finite, whatever becomes of the weights."""

    def train_step(self, batch):
        result = super().train_step(batch)
        return StepResult({"loss": torch.zeros(())}, result.count)


def test_weights_that_no_step_speaks_of_are_looked_at_before_they_are_saved(stop, write_into):
    write_into(trainer.trainer, Silent)
    run, said = stop(trainer={"type": "Silent"})
    assert "error: step 40: model.conv1.weight is not finite, though no step reported it." in said
    assert load(run / "last.pth")["step"] == 20 and all_finite(load(run / "last.pth"))


def test_a_warning_will_do_where_that_is_asked_for(project, write_into):
    write_into(model.model, Fused)
    config = project.write_config(model="Fused", trainer=SHORT | {"on_non_finite": "warn"})
    code, out, _ = project.command(train_script, "-c", config)
    assert code == 0 and out.count("loss is nan. Training continues, and does not report loss again.") == 1
    (run,) = project.run_dirs()
    assert load(run / "model_best.pth")["epoch"] == 1
    assert "val_loss is nan, which is never the best." in out


def test_a_metric_may_be_what_it_is(project, write_into):
    def undefined(output, target):
        return torch.tensor(math.nan)

    undefined.__module__ = "model.metric"
    model.metric.undefined = undefined
    try:
        project.train(metrics=["undefined"])
    finally:
        del model.metric.undefined


AUGMENTED = {"type": "Digits", "args": {"train_transform": [{"type": "RandomShift", "args": {"padding": 1}}]}}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_replay_names_the_first_module(stop, project, workers):
    run, _ = stop(dataset=AUGMENTED, data_loader={"batch_size": 64, "num_workers": workers})
    before = {path: path.stat().st_mtime_ns for path in run.iterdir()}
    code, out, err = project.command(train_script, "-r", run, "--replay")
    assert code == 0, out + err
    assert "Training from step 20 to step 30, where loss was not finite." in out
    assert "Step 30: the first output that is not finite is that of model.conv2.1 (Fuse)" in out
    assert "numbers are not" in out and "what went in was finite (0 of " in out
    assert before == {path: path.stat().st_mtime_ns for path in run.iterdir()}


def test_a_replay_finds_the_step_over_epochs_and_from_the_start(stop, project):
    run, _ = stop(trainer={"save_period": 100, "monitor": "off", "early_stop": None})
    assert load(run / "last.pth")["step"] == 0
    code, out, _ = project.command(train_script, "-r", run, "--replay")
    assert code == 0 and "Training from step 0 to step 30" in out and "Step 30: the first output" in out


def test_a_replay_names_the_operation_whose_gradient_it_is(stop, project):
    run, said = stop("InfiniteGradient")
    assert "grad_norm is nan." in said
    code, out, _ = project.command(train_script, "-r", run, "--replay")
    assert code == 0 and "Step 30: in the backward pass: Function 'SqrtBackward0' returned nan values" in out
    assert "extra = (self.fuse(outputs) ** 2)" in out, "the line of the forward pass"


class Poisoned(Digits):
    """One sample in the middle is not a number."""

    def __init__(self, split):
        super().__init__(split)
        if split == "train":
            self.images = self.images.float()
            self.images[600, 0, 0, 0] = math.nan


def test_a_replay_knows_that_the_batch_itself_is_at_fault(stop, project, write_into):
    write_into(data_loader.datasets, Poisoned)
    run, _ = stop("Fused", dataset="Poisoned")
    code, out, _ = project.command(train_script, "-r", run, "--replay")
    assert code == 0 and "what goes into model (Fused) is not finite (1 of 4096 numbers are not" in out


def test_a_replay_of_weights_that_no_step_speaks_of(stop, project, write_into):
    write_into(trainer.trainer, Silent)
    run, _ = stop(trainer={"type": "Silent"})
    code, out, _ = project.command(train_script, "-r", run, "--replay")
    assert code == 0 and "Again: step 30: model.conv1.weight is not finite" in out


class OnlyItsLoss(trainer.trainer.Trainer):
    """Reports no gradient: what spoils the weights in one step is in the loss of the next."""

    def train_step(self, batch):
        result = super().train_step(batch)
        return StepResult({"loss": result.means["loss"]}, result.count)


def test_a_replay_looks_at_the_step_before_the_loss_too(stop, project, write_into):
    write_into(trainer.trainer, OnlyItsLoss)
    run, said = stop("InfiniteGradient", trainer={"type": "OnlyItsLoss"})
    assert "step 31 (batch 11 of epoch 2, lr 0.001): loss is nan." in said
    code, out, _ = project.command(train_script, "-r", run, "--replay")
    assert code == 0 and "Step 30: in the backward pass: Function 'SqrtBackward0' returned nan values" in out


def test_a_replay_stops_whatever_the_config_says(stop, project):
    run, _ = stop()
    code, out, _ = project.command(train_script, "-r", run, "--replay", "--set", "trainer.on_non_finite=warn")
    assert code == 0 and "Step 30: the first output that is not finite" in out
    code, _, err = project.command(train_script, "-r", run, "--replay", "--set", "trainer.epochs=1")
    assert code == 1 and "All is finite up to step 20 this time." in err


class Marked(torch.autograd.Function):
    """The identity; its node in the graph holds a marker."""

    class Marker:
        pass

    @staticmethod
    def forward(ctx, value):
        ctx.marker = Marked.Marker()
        Marked.alive = weakref.ref(ctx.marker)
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def test_no_graph_is_kept_from_step_to_step():
    watch = FiniteWatch((), stops=True)
    result = StepResult({"loss": Marked.apply(torch.ones((), requires_grad=True))}, 1)
    watch.update({}, list(result.means), RunningMeans().update(result))
    assert Marked.alive() is not None
    del result
    gc.collect()
    assert Marked.alive() is None


def test_a_replay_in_which_all_is_finite_says_so(stop, project, monkeypatch):
    run, _ = stop()
    monkeypatch.setattr(Fuse, "factor", 1.0)
    code, _, err = project.command(train_script, "-r", run, "--replay")
    assert code == 1 and "All is finite up to step 30 this time." in err


def test_a_replay_needs_a_run_that_failed(project):
    run = project.train()
    assert f"{run}: has no failure.json: the run has met nothing to repeat." in project.refused("-r", run, "--replay")
    assert "argument --replay: needs -r/--resume" in project.refused("-c", project.write_config(), "--replay")


def test_going_on_forgets_the_failure(stop, project, monkeypatch):
    run, _ = stop()
    monkeypatch.setattr(Fuse, "factor", 1.0)
    project.resume(run)
    assert not (run / "failure.json").exists()
