"""A check before a run: the mistakes that train badly instead of failing are named, and nothing else is."""

import copy
import math
import random
import re

import pytest
import torch
from checking import WithClosure
from conftest import Scaling, assert_same
from torch import nn
from torch.nn import functional as F

import data_loader.datasets
import trainer.trainer
from base.base_trainer import BaseTrainer
from base.checks.check import _readable, check
from logger.means import StepResult
from utils.seed import rng_state


def test_what_is_shipped_has_no_problem(look):
    rows, problems = look()
    assert problems == [] and rows["problems"] == "none" and "note" not in rows
    assert rows["model"] == "LeNet" and rows["parameters"] == "1,034 (1,034 trainable)"
    loss, chance = re.fullmatch(r"nll_loss ([\d.]+); ln 10 = ([\d.]+) by chance", rows["initial loss"]).groups()
    assert float(loss) == pytest.approx(math.log(10), abs=0.3) and float(chance) == pytest.approx(
        math.log(10), abs=1e-4
    )
    assert rows["without gradient"] == "none, in 9 steps"
    assert rows["samples of valid in train"] == "0 of 179"
    assert rows["training samples"] == "10 classes, from 122 samples (class 8) to 128 (class 3)"
    assert rows["time of the run"].endswith(": 2 epochs of 20 + 3 steps")
    for step in ("training", "validation"):
        assert 0 < float(rows[f"seconds a {step} step"].removesuffix(", with the loading of its batch")) < 10
    assert re.search(r"[\d.]+ [MG]iB of the process", rows["peak memory"])


class Drawn(data_loader.datasets.Digits):
    """Draws noise in each sample that is read alone."""

    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        return image + torch.randn(()), target


def test_it_leaves_no_trace(build, project, write_into):
    def state(built):
        seen = {"metrics": built.metrics.state_dict()}
        return built.state_dict() | seen | {"rng": rng_state(), "own": (built.step, built.epoch)}

    write_into(data_loader.datasets, Drawn)
    untouched, built = (build(dataset="Drawn") for _ in range(2))
    position = built.run.batches["train"].state_dict()
    before, files = copy.deepcopy(state(built)), sorted(project.folder.rglob("*"))
    check(built)
    assert_same(before, state(built))
    assert built.run.batches["train"].state_dict() == position
    assert sorted(project.folder.rglob("*")) == files
    for one, other in zip(built.run.batches["train"].epoch(2), untouched.run.batches["train"].epoch(2), strict=True):
        assert torch.equal(one[0], other[0])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "less than 1 s"), (59, "59 s"), (200, "3 min 20 s"), (7259, "2 h"), (90000, "1 days 1 h")],
)
def test_durations_can_be_read(seconds, text):
    assert _readable(seconds) == text


# ---- gradients that reach the next step ----


class Stepping(trainer.trainer.Trainer):
    """The shipped step, in pieces."""

    def train_step(self, batch):
        inputs, targets = batch
        self.before_backward()
        loss = self.loss_fn(self.forward(inputs), targets)
        loss.backward()
        self.after_backward()
        return StepResult({"loss": loss}, len(targets))

    def before_backward(self):
        self.optimizer.zero_grad()

    def after_backward(self):
        self.optimizer.step()


class NeverZeroed(Stepping):
    def before_backward(self):
        pass


class Clipped(NeverZeroed):
    def after_backward(self):
        nn.utils.clip_grad_norm_(self.model.parameters(), 1e-3)
        self.optimizer.step()


class Accumulating(NeverZeroed):
    every = 3

    def after_backward(self):
        if (self.step + 1) % self.every == 0:
            self.optimizer.step()
            self.optimizer.zero_grad()


class AccumulatingForLong(Accumulating):
    every = 1000


SGD, STILL = {"type": "SGD", "args": {"lr": 0.1}}, {"type": "SGD", "args": {"lr": 0.0}}


@pytest.mark.parametrize("trainer_class", [NeverZeroed, Clipped, Accumulating, AccumulatingForLong])
@pytest.mark.parametrize("optimizer", ["Adam", SGD, STILL], ids=["Adam", "SGD", "still"])
def test_gradients_that_reach_the_next_step_are_named(look_with, trainer_class, optimizer):
    rows, (problem,) = look_with(trainer_class, optimizer=optimizer, metrics=[], lr_scheduler=None)
    assert rows["gradients"] == "those of one step reach the next" and rows["problems"] == "1"
    assert problem == (
        "trainer.train_step: the gradients of one step reach the next. Call optimizer.zero_grad() before "
        "backward(), for each optimizer; gradients that are summed over several steps on purpose are lost when a "
        "run is resumed: sum them over parts of one larger batch, within a step."
    )


def test_neither_clipping_nor_batches_that_are_alike_hide_them(look_with):
    steady = {"type": "LeNet", "args": {"num_classes": 10, "dropout": 0.0}}
    loader = {"batch_size": 1259}
    _, problems = look_with(Clipped, model=steady, data_loader=loader, optimizer=STILL, metrics=[], lr_scheduler=None)
    assert len(problems) == 1


class ZeroedAtTheEnd(NeverZeroed):
    def after_backward(self):
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)


@pytest.mark.parametrize(
    ("trainer_class", "optimizer"),
    [(ZeroedAtTheEnd, "Adam"), (Scaling, "Adam"), (WithClosure, "LBFGS"), (Stepping, SGD)],
)
def test_other_ways_to_clear_them_are_none(look_with, trainer_class, optimizer):
    rows, problems = look_with(trainer_class, optimizer=optimizer, metrics=[], lr_scheduler=None)
    assert (rows["gradients"], problems) == ("each step has its own", [])


class Unrepeatable(Stepping):
    """Draws from the system, which nobody can put back."""

    def train_step(self, batch):
        inputs, targets = batch
        return super().train_step((inputs + random.SystemRandom().random(), targets))


def test_where_steps_cannot_be_repeated_it_says_so(look_with):
    rows, problems = look_with(Unrepeatable, metrics=[])
    assert problems == [] and "two steps from the same state differ, so that none can tell" in rows["gradients"]


class Adversarial(BaseTrainer):
    """A discriminator and a generator that take turns; each backward leaves gradients in both."""

    zeroes_generator = True

    def __init__(self, run, model):
        super().__init__(run)
        self.model = model
        self.generator = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.BatchNorm1d(32), nn.Linear(32, 64))
        self.optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), lr=0.002)

    def scores(self, real):
        fake = self.generator(torch.randn(len(real), 4)).view(-1, 1, 8, 8)
        return self.model(fake)[:, :1], self.model(real)[:, :1]

    def train_step(self, batch):
        of_fake, of_real = self.scores(batch[0])
        loss = F.binary_cross_entropy_with_logits
        if self.step % 2 == 0:
            self.optimizer.zero_grad()
            value = loss(of_fake, torch.zeros_like(of_fake)) + loss(of_real, torch.ones_like(of_real))
            value.backward()
            self.optimizer.step()
            return StepResult({"loss": value}, len(of_real))
        if self.zeroes_generator:
            self.generator_optimizer.zero_grad()
        value = loss(of_fake, torch.ones_like(of_fake))
        value.backward()
        self.generator_optimizer.step()
        return StepResult({"generator_loss": value}, len(of_real))

    def valid_step(self, batch):
        return StepResult({"score": self.scores(batch[0])[1].mean()}, len(batch[0]))

    def stateful(self):
        return {
            "model": self.model, "generator": self.generator,
            "optimizer": self.optimizer, "generator_optimizer": self.generator_optimizer,
        }  # fmt: skip


class HalfZeroed(Adversarial):
    zeroes_generator = False


NO_SECTIONS = {"loss": None, "optimizer": None, "lr_scheduler": None, "metrics": []}
FREE = {"monitor": "off", "early_stop": None}


def test_two_networks_that_take_turns_are_no_problem(look_with):
    rows, problems = look_with(Adversarial, **NO_SECTIONS, trainer=FREE)
    assert problems == [] and rows["model"] == "model LeNet, generator Sequential"
    assert (
        rows["initial loss"].startswith("binary_cross_entropy_with_logits ") and "ln 2 = 0.6931" in rows["initial loss"]
    )
    assert rows["without gradient"] == "none, in 9 steps"
    assert rows["gradients"] == "each step has its own"


def test_one_optimizer_of_two_that_is_not_cleared_is_found(look_with):
    rows, (problem,) = look_with(HalfZeroed, **NO_SECTIONS, trainer=FREE)
    assert "the gradients of one step reach the next" in problem
