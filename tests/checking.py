"""Fixtures for tests of `--check`, and a trainer whose step takes a closure."""

import re

import pytest

import trainer.trainer
from base.checks.check import check
from base.checks.preflight import check_before_training
from logger.means import StepResult
from utils.errors import UserError


@pytest.fixture
def build(project, monkeypatch):
    """The trainer of a config, as `train.py` has it when the run would start."""
    monkeypatch.setattr("base.checks.check.TIMED_STEPS", 7)

    def build(**sections):
        built = project.trainer(**sections)
        check_before_training(built)
        return built

    return build


@pytest.fixture
def look(build, capfd):
    """Check it: the table, as a dict, and the problems."""

    def look(**sections):
        built, problems = build(**sections), []
        capfd.readouterr()
        try:
            check(built)
        except UserError as error:
            problems = str(error).splitlines()
        lines = capfd.readouterr().out.splitlines()
        return dict(re.split(" {2,}", line, maxsplit=1) for line in lines), problems

    return look


@pytest.fixture
def look_with(look, write_into):
    """Check a run with this trainer in the place of the shipped one."""

    def look_with(trainer_class, **sections):
        write_into(trainer.trainer, trainer_class)
        return look(trainer={"type": trainer_class.__name__} | sections.pop("trainer", {}), **sections)

    return look_with


class WithClosure(trainer.trainer.Trainer):
    """A step for optimizers that call it, such as LBFGS."""

    def train_step(self, batch):
        inputs, targets = batch

        def closure():
            self.optimizer.zero_grad()
            loss = self.loss_fn(self.forward(inputs), targets)
            loss.backward()
            return loss

        return StepResult({"loss": self.optimizer.step(closure).detach()}, len(targets))
