"""Which models keep their channels side by side (channels_last)."""

import shutil

import pytest
import torch
from conftest import load, metrics_of
from torch import nn

import model.model
from model.model import LeNet
from utils.checkpoints.checkpoint import save_checkpoint


class WithView(nn.Module):
    """As many write it: `view` behind a convolution, which channels_last does not bear."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3)
        self.conv2 = nn.Conv2d(4, 4, 3)
        self.head = nn.Linear(64, 10)

    def forward(self, images):
        features = self.conv2(self.conv1(images)).view(len(images), -1)
        return nn.functional.log_softmax(self.head(features), dim=1)


class Denoiser(nn.Module):
    """Gives images again: a loss may use `view` on them."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, images):
        return self.conv2(self.conv1(images))


@pytest.mark.parametrize(
    ("name", "chosen", "is_last"),
    [("LeNet", None, True), ("LeNet", False, False), ("WithView", None, False), ("Denoiser", None, False)],
)
def test_channels_last_where_nothing_can_tell(project, write_into, name, chosen, is_last):
    write_into(model.model, WithView)
    write_into(model.model, Denoiser)
    args = project.config["model"]["args"] if name == "LeNet" else {}
    weight = project.trainer(model={"type": name, "args": args, "channels_last": chosen}).model.conv2.weight
    assert weight.is_contiguous() is not is_last
    assert weight.is_contiguous(memory_format=torch.channels_last) is is_last


def test_a_checkpoint_of_the_other_order_goes_on_the_same(project):
    """As one of a GPU has it, where channels_last is not chosen: fused kernels go through memory as it lies."""
    whole = project.train(trainer={"epochs": 3})
    run = project.train(trainer={"epochs": 1})
    checkpoint = load(run / "last.pth")
    for entry in checkpoint["optimizer"]["state"].values():
        entry |= {name: value.contiguous() for name, value in entry.items()}
    save_checkpoint(run, checkpoint, ["last.pth"])
    project.resume(run / "last.pth", "--set", "trainer.epochs=3")
    assert metrics_of(run) == metrics_of(whole)


SIZES: list[int] = []  # not of the class: a trial puts that back


class Counting(LeNet):
    """Notes how many samples it is given at once."""

    def forward(self, images):
        SIZES.append(len(images))
        return super().forward(images)


def test_the_trial_takes_no_memory_for_a_whole_batch(project, write_into):
    write_into(model.model, Counting)
    SIZES.clear()
    trainer = project.trainer(model=project.config["model"] | {"type": "Counting"})
    assert SIZES == [2, 2]  # in evaluation, and in training
    assert trainer.model.conv2.weight.is_contiguous(memory_format=torch.channels_last)


def test_a_model_with_view_trains(project, write_into):
    write_into(model.model, WithView)
    assert metrics_of(project.train(model="WithView"))[-1]["loss"] < 2.2


def test_channels_last_trains_to_the_same_and_resumes_bitwise(project, run_with_stops):
    is_last, is_not = ({"model": project.config["model"] | {"channels_last": chosen}} for chosen in (True, False))
    trainer = project.trainer(**is_last)
    assert trainer.model.conv2.weight.is_contiguous(memory_format=torch.channels_last)
    plain, last = (metrics_of(project.train(**sections)) for sections in (is_not, is_last))
    for one, other in zip(plain, last, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one["val_loss"] == pytest.approx(other["val_loss"], rel=1e-4)
    for run in project.run_dirs():
        shutil.rmtree(run)
    run_with_stops(3, 7, **is_last)


def test_scoring_makes_no_trial_which_would_take_the_memory_of_a_second_model(project, monkeypatch):
    import utils.modules.auto_tuning

    run = project.train(trainer={"epochs": 1})
    calls = []
    monkeypatch.setattr(utils.modules.auto_tuning, "_suits", lambda *arguments: calls.append(arguments))
    project.test("-r", run, "--split", "valid")
    assert not calls
    project.train(trainer={"epochs": 1})
    assert len(calls) == 1
