"""A few batches learned by heart, or a message that says how far it came."""

import multiprocessing
import os
import re
import signal

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

import data_loader.datasets
import model.loss
import trainer.trainer
from base.base_trainer import BaseTrainer
from base.checks.overfit import overfit
from logger.means import StepResult
from utils.errors import RunError, Stopped, UserError
from utils.exit_codes import exit_code_of

Trainer = trainer.trainer.Trainer
LINE = r"overfit: (\d+) batch(?:es)?, (\d+) samples: (\w+) (\S+) -> (\S+) in (\d+) steps \(\d+\.\d s\)"
AUGMENTED = {"type": "Digits", "args": {"train_transform": [{"type": "RandomShift", "args": {"padding": 1}}]}}


@pytest.fixture(autouse=True)
def _heard(caplog):
    caplog.set_level("INFO")


def files(folder):
    return sorted(path for path in folder.rglob("*"))


def failure(built, count=2, **options):
    """What a run says that must not come near zero."""
    with pytest.raises(RunError) as error:
        overfit(built, count, **options)
    return str(error.value)


def test_digits_are_learned_by_heart_and_nothing_is_written(project, caplog):
    built = project.trainer(optimizer={"type": "Adam", "args": {"lr": 0.01}})
    before = files(project.folder)
    overfit(built, 2)
    (message,) = caplog.messages
    batches, samples, name, first, last, steps = re.fullmatch(LINE, message).groups()
    assert (batches, samples, name) == ("2", "128", "loss")
    assert float(first) == pytest.approx(2.3, abs=0.2) and float(last) <= 0.01 * float(first)
    assert built.step == int(steps) < 1000
    assert files(project.folder) == before
    assert built.metrics.compute()["ConfusionMatrix"].sum() == 0
    built.set_training(False)
    images, targets = built.run.batches["train"].trial()
    assert nn.functional.nll_loss(built.model(images), targets) < 0.05, "these are the batches of the training set"


class Stuck(Trainer):
    """Forgets optimizer.step()."""

    def train_step(self, batch):
        inputs, targets = batch
        self.optimizer.zero_grad()
        loss = self.loss_fn(self.forward(inputs), targets)
        loss.backward()
        return StepResult({"loss": loss}, len(targets))


def test_a_step_that_does_not_train_is_told(project, write_into, capfd):
    write_into(trainer.trainer, Stuck)
    built = project.trainer(trainer={"type": "Stuck"})
    before = files(project.folder)
    assert exit_code_of(lambda: overfit(built, 2, most_steps=25)) == 1
    said = capfd.readouterr().err
    (loss,) = set(re.findall(r"loss (\S+) -> (\S+) in 25 steps .*, lowest (\S+); near zero is 0\.02", said)[0])
    assert 2 < float(loss) < 3 and "still falling" not in said
    assert "the learning rate (lr 0.001), and max_grad_norm;" in said
    assert "zero_grad" in said and "labels" in said and "softmax applied twice" in said and "--check" in said
    assert files(project.folder) == before


def test_a_loss_with_a_floor_is_told_its_lowest_value(project, write_into):
    def smooth(output, target):
        return nn.functional.cross_entropy(output, target, label_smoothing=0.2)

    smooth.__module__, smooth.__name__ = "model.loss", "smooth"
    write_into(model.loss, smooth)
    said = failure(project.trainer(loss="smooth"), most_steps=200)
    before, last, lowest = map(float, re.search(r"loss (\S+) -> (\S+) in 200 steps .*, lowest ([\d.]+)", said).groups())
    assert 0.1 < lowest <= last < before and "label smoothing" in said


def test_a_loss_that_is_on_its_way_is_told_so(project):
    said = failure(project.trainer(), most_steps=200)
    assert re.search(r"lowest \S+, still falling; near zero is 0\.02", said)


def test_a_loss_that_is_not_finite_ends_it_at_once(project):
    said = failure(project.trainer(optimizer={"type": "SGD", "args": {"lr": 1e30}}))
    assert re.search(r"loss 2\.\d+ -> (nan|inf) in 10 steps .*, lowest 2\.\d+;", said)


class Recording(Trainer):
    """Keeps what each step was given, and spoils it afterwards."""

    def train_step(self, batch):
        self.__dict__.setdefault("seen", []).append(batch[0].clone())
        self.__dict__.setdefault("rates", set()).add(self.optimizer.param_groups[0]["lr"])
        result = super().train_step(batch)
        batch[0].zero_()
        return result


def test_the_batches_are_loaded_once_whatever_the_step_does_to_them(project, write_into):
    write_into(trainer.trainer, Recording)
    built = project.trainer(dataset=AUGMENTED, trainer={"type": "Recording"}, data_loader={"batch_size": 32})
    failure(built, count=3, most_steps=9)
    first, second, third = built.seen[:3]
    assert not torch.equal(first, second) and not torch.equal(second, third)
    assert all(torch.equal(image, built.seen[i % 3]) for i, image in enumerate(built.seen))


def test_the_learning_rate_is_that_of_the_config_and_no_schedule_moves_it(project, write_into):
    write_into(trainer.trainer, Recording)
    warm_up = {"type": "LinearLR", "interval": "step", "args": {"start_factor": 1e-6, "total_iters": 1000}}
    built = project.trainer(trainer={"type": "Recording"}, lr_scheduler=warm_up)
    failure(built, most_steps=20)
    assert built.rates == {0.001}


def test_no_worker_is_left(project):
    built = project.trainer(data_loader={"batch_size": 64, "num_workers": 1, "persistent_workers": False})
    failure(built, most_steps=1)
    assert not multiprocessing.active_children()


def test_a_smaller_training_set_is_told(project, caplog):
    built = project.trainer(data_loader={"batch_size": 500})
    said = failure(built, count=9, most_steps=1)
    assert "overfit: 9 batches asked for, 3 in the training set." in caplog.messages
    assert said.startswith("overfit: 3 batches, 1259 samples: loss ")


class Points(Dataset):
    """Samples are dicts."""

    def __init__(self, split):
        generator = torch.Generator().manual_seed(0)
        self.points = torch.randn(64, 4, generator=generator)

    def __len__(self):
        return 64

    def __getitem__(self, index):
        return {"x": self.points[index], "y": self.points[index].sum(0, keepdim=True)}


class TwoParts(BaseTrainer):
    """Two modules with an optimizer each; nothing is named "loss"."""

    def __init__(self, run):
        super().__init__(run)
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 1)
        self.optimizers = [torch.optim.SGD(part.parameters(), lr=0.05) for part in (self.first, self.second)]

    def error(self, batch):
        return nn.functional.mse_loss(self.second(self.first(batch["x"])), batch["y"])

    def train_step(self, batch):
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        error = self.error(batch)
        error.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        return StepResult({"error": error}, len(batch["x"]))

    def valid_step(self, batch):
        assert not self.first.training and not torch.is_grad_enabled()
        return StepResult({"error": self.error(batch), "other": torch.ones(())}, len(batch["x"]))

    def stateful(self):
        first, second = self.optimizers
        return {"model": self.first, "second": self.second, "one": first, "two": second}


def test_any_trainer_will_do(project, write_into, caplog):
    write_into(trainer.trainer, TwoParts)
    write_into(data_loader.datasets, Points)
    names = dict.fromkeys(("loss", "optimizer", "lr_scheduler"))
    built = project.trainer(
        dataset="Points", metrics=[], trainer={"type": "TwoParts", "monitor": "off", "early_stop": None}, **names
    )
    overfit(built, 1)
    assert re.fullmatch(LINE, caplog.messages[-1])[3] == "error"


class Interrupted(Trainer):
    """Is stopped in its third step."""

    def train_step(self, batch):
        if self.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().train_step(batch)


def test_a_signal_stops_it_after_the_step(project, write_into, caplog):
    write_into(trainer.trainer, Interrupted)
    built = project.trainer(trainer={"type": "Interrupted"})
    with pytest.raises(Stopped):
        overfit(built, 2)
    assert built.step == 3 and caplog.messages == ["Stopped; nothing was written."]


class Perfect(Trainer):
    """Has no loss to begin with."""

    def valid_step(self, batch):
        return StepResult({"loss": torch.zeros(())}, len(batch[1]))


def test_what_cannot_be_brought_near_zero_is_refused(project, write_into):
    write_into(trainer.trainer, Perfect)
    said = failure(project.trainer(trainer={"type": "Perfect"}))
    assert "loss is 0 before the first step, and cannot come near zero from there." in said
    with pytest.raises(UserError, match="--overfit 0: not a number of batches. Write a whole number of at least 1."):
        overfit(project.trainer(), 0)
