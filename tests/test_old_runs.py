"""Run directories and trainers of earlier versions of this project: they continue to work.

Each folder in `old_runs` is a run that was stopped within its second or third epoch, with the metrics of the same run
without a stop.
"""

import copy
import json
import shutil

import pytest
import torch
from conftest import ROOT, load, metrics_of

import trainer.trainer
from base.exact_loss import ExactLoss

OLD_RUNS = ROOT / "tests" / "old_runs"


@pytest.mark.parametrize("kind", ["plain", "options", "sharded"])
def test_a_run_of_an_earlier_version_continues(project, kind):
    run = project.folder / "saved" / kind / "20261128-120000"
    shutil.copytree(OLD_RUNS / kind, run)
    expected = [json.loads(line) for line in (run / "metrics_of_whole_run.jsonl").read_text().splitlines()]
    project.resume(run, "-d", "cpu")
    assert len(metrics_of(run)) == len(expected) == 3
    for values, others in zip(metrics_of(run), expected, strict=True):
        names = ("epoch", "step", "lr") if kind == "sharded" else values  # one process draws other numbers than two
        found, wanted = ({name: line[name] for name in names} for line in (values, others))
        assert found == pytest.approx(wanted, rel=1e-3, abs=1e-3)  # processors round differently
    saved = load(run / "last.pth")
    assert (saved["epoch"], saved["step"]) == (3, 60)


@pytest.mark.parametrize("kind", ["plain", "options", "sharded"])
def test_a_run_of_an_earlier_version_is_scored(project, kind):
    metrics, _ = project.test("-r", OLD_RUNS / kind / "last.pth")
    assert 0 <= metrics["accuracy"] <= 1


OLD_TRAINER = """
from typing import Any

from base.base_trainer import StepResult
from trainer.gradients import clip_gradients
from trainer.trainer import Trainer
from utils.checkpoint import Stateful
from utils.run_checkpoints import load_weights


class OldTrainer(Trainer):
    def train_step(self, batch: tuple[Any, Any]) -> StepResult:
        inputs, targets = batch
        self.optimizer.zero_grad()
        outputs = self.forward(inputs)
        loss = self.loss_fn(outputs, targets)
        (loss * self.run.batches["train"].weight).backward()
        norm = clip_gradients(self.model.parameters(), self.max_grad_norm)
        self.optimizer.step()
        return StepResult({"loss": loss, **self.metrics(outputs, targets), "grad_norm": norm}, len(targets))

    def valid_step(self, batch: tuple[Any, Any]) -> StepResult:
        outputs = self.scored(batch[0])
        means = {"loss": self.loss_fn(outputs, batch[1]), **self.metrics(outputs, batch[1])}
        return StepResult(means, self.samples)

    def stateful(self) -> dict[str, Stateful]:
        return super().stateful()
"""


def test_a_trainer_written_for_an_earlier_version_computes_the_same(project, write_into):
    names = {"__name__": "trainer.trainer"}
    exec(OLD_TRAINER, names)  # noqa: S102 - the text above
    write_into(trainer.trainer, names["OldTrainer"])
    runs = [project.train(trainer={"type": name}) for name in ("OldTrainer", "Trainer", "FullTrainer")]
    assert metrics_of(runs[0]) == metrics_of(runs[1]) == metrics_of(runs[2])


def test_the_loss_of_a_trainer_is_called_and_read_as_the_loss_itself():
    def weighted(outputs, targets, weights, power=2):
        return ((outputs - targets).abs() ** power * weights).mean()

    loss = copy.deepcopy(ExactLoss(weighted))
    one, zero, half = torch.ones(2), torch.zeros(2), torch.full((2,), 0.5)
    assert loss(one, zero, half, power=3) == 0.5 and not hasattr(loss, "weight")
    assert ExactLoss(torch.nn.CrossEntropyLoss(label_smoothing=0.25)).label_smoothing == 0.25
