"""What trains, and the state of optimizers, survive a restart by the names of parameters."""

import re

import pytest
import torch
from checking import WithClosure
from conftest import assert_same, load
from torch import nn

import model.model
import train as train_script
import trainer.trainer


class Layers(nn.Module):
    """Two layers of one size, made in the order that the class says."""

    order = ("a", "b", "c")

    def __init__(self, num_classes: int):
        super().__init__()
        for name in type(self).order:
            self.add_module(name, nn.Linear(64, num_classes if name == "c" else 64))

    def forward(self, images):
        return self.c(torch.tanh(self.b(torch.tanh(self.a(images.flatten(1)))))).log_softmax(dim=1)


class Thawing(trainer.trainer.Trainer):
    """Trains a layer from the third epoch on, and freezes another one then."""

    def __init__(self, **parts):
        super().__init__(**parts)
        self.model.a.requires_grad_(False)

    def on_epoch_end(self, values):
        if self.epoch == 2:
            self.model.a.requires_grad_(True)
            self.model.b.bias.requires_grad_(False)


class Adding(trainer.trainer.Trainer):
    """Adds a group to the optimizer after the second epoch."""

    def on_epoch_end(self, values):
        if self.epoch == 2:
            self.model.a.requires_grad_(True)
            self.optimizer.add_param_group({"params": list(self.model.a.parameters()), "lr": 0.0001})


@pytest.fixture
def sections(write_into):
    write_into(model.model, Layers)
    write_into(trainer.trainer, Thawing)
    write_into(trainer.trainer, Adding)
    return {"model": {"type": "Layers", "args": {"num_classes": 10}}, "data_loader": {"batch_size": 256}}


@pytest.mark.parametrize("optimizer", ["AdamW", {"type": "SGD", "args": {"lr": 0.01, "momentum": 0.9}}])
@pytest.mark.parametrize("kind", ["Thawing", "Adding"])
@pytest.mark.parametrize("stop", [2, 3])
def test_a_run_that_changes_what_trains_goes_on_bitwise(project, sections, kind, optimizer, stop):
    sections["optimizer"] = optimizer
    if kind == "Adding":
        sections["model"] |= {"freeze": "a.*"}
    whole = project.train(**sections, trainer={"type": kind, "epochs": 5})
    parts = project.train(**sections, trainer={"type": kind, "epochs": stop})
    project.resume(parts, "--set", "trainer.epochs=5")
    first, second = load(whole / "last.pth"), load(parts / "last.pth")
    assert first["config"]["trainer"].pop("epochs") == second["config"]["trainer"].pop("epochs") == 5
    assert_same(first, second)


@pytest.mark.parametrize(
    "optimizer",
    [
        "Adam",
        {"type": "SGD", "args": {"lr": 0.01, "momentum": 0.9}, "groups": [{"params": "*.bias", "weight_decay": 0.1}]},
    ],
)
def test_the_order_of_layers_may_change(project, sections, monkeypatch, optimizer):
    sections["optimizer"] = optimizer
    whole, changed = (project.train(**sections, trainer={"epochs": 1}) for _ in range(2))
    project.resume(whole, "--set", "trainer.epochs=3")
    monkeypatch.setattr(Layers, "order", ("c", "b", "a"))
    project.resume(changed, "--set", "trainer.epochs=3")
    first, second = (load(run / "last.pth")["model"] for run in (whole, changed))
    for name, weight in first.items():
        assert torch.equal(second[name], weight), name


def test_state_by_position_is_that_of_an_older_checkpoint(project, sections):
    run = project.train(**sections, optimizer="Adam", trainer={"epochs": 1})
    built = project.trainer(**sections, optimizer="Adam", trainer={"epochs": 1})
    state = load(run / "last.pth")
    del state["parameters"]
    built.load_state_dict(state)
    assert_same(built.optimizer.state_dict()["state"], load(run / "last.pth")["optimizer"]["state"])


def test_other_parameters_are_named(project, sections):
    run = project.train(**sections, optimizer="Adam", trainer={"epochs": 1})
    built = project.trainer(
        **sections | {"model": sections["model"] | {"freeze": "a.*"}}, optimizer="Adam", trainer={"epochs": 1}
    )
    with pytest.raises(
        Exception, match=re.escape("its 'optimizer' does not fit this config's: it differs in model.a.")
    ):
        built.load_state_dict(load(run / "last.pth"))


def test_lbfgs_keeps_its_state_in_one_order(project, sections, monkeypatch, write_into):
    write_into(trainer.trainer, WithClosure)
    run = project.train(**sections, optimizer="LBFGS", trainer={"epochs": 1, "type": "WithClosure"})
    monkeypatch.setattr(Layers, "order", ("c", "b", "a"))
    code, _, err = project.command(train_script, "-r", run, "--set", "trainer.epochs=2")
    assert code == 2 and "LBFGS keeps its state in the order of the parameters, which has changed." in err


class Spoiling(trainer.trainer.Trainer):
    """A buffer that becomes infinite, beside a mask that is so from the start."""

    def train_step(self, batch):
        result = super().train_step(batch)
        if self.step == 3 and not self.is_rehearsal:
            self.model.mean[0] = float("nan")
        return result


class Masked(Layers):
    def __init__(self, num_classes: int):
        super().__init__(num_classes)
        self.register_buffer("mask", torch.full((2, 2), -torch.inf).triu(1))
        self.register_buffer("mean", torch.zeros(2))


def test_buffers_are_watched_and_a_mask_may_be_infinite(project, sections, write_into):
    write_into(model.model, Masked)
    write_into(trainer.trainer, Spoiling)
    sections["model"]["type"] = "Masked"
    run = project.train(**sections, trainer={"epochs": 1})
    assert load(run / "last.pth")["epoch"] == 1
    config = project.write_config(**sections, trainer={"type": "Spoiling", "epochs": 1})
    code, _, err = project.command(train_script, "-c", config)
    assert code == 1 and "error: step 5: model.mean is not finite, though no step reported it." in err
    assert load(project.run_dirs()[-1] / "last.pth")["step"] == 0
