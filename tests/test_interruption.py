"""A run that a signal stops after any step, and that is resumed, ends as the one that nothing stopped, to the last bit.

The signals are real ones, which the process sends to itself.
"""

import signal

import pytest
import torch
from conftest import EPOCHS, STEPS, Interrupting, Scaling
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import IterableDataset, get_worker_info

import data_loader.datasets
import model.metric
from base.base_trainer import BaseTrainer, StepResult
from data_loader.datasets import Digits
from model.metric import ConfusionMatrix


@pytest.mark.parametrize("step", range(1, EPOCHS * STEPS))
def test_after_any_step(run_with_stops, step):
    run_with_stops(step, metrics=["accuracy", {"type": "ConfusionMatrix", "args": {"num_classes": 10}}])


def test_after_every_single_step(run_with_stops):
    run_with_stops(*range(1, EPOCHS * STEPS))


@pytest.mark.parametrize("step", [STEPS, 2 * STEPS])
def test_in_the_middle_of_the_validation(run_with_stops, step):
    run_with_stops(step, in_validation=True)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("step", [2, STEPS, 7])
def test_with_workers(run_with_stops, workers, step):
    run_with_stops(step, data_loader={"num_workers": workers, "persistent_workers": True})


@pytest.mark.parametrize("epoch_steps", [3, 8])
@pytest.mark.parametrize("step", [2, 3, 5])
def test_with_epochs_counted_in_steps(run_with_stops, epoch_steps, step):
    run_with_stops(step, trainer={"epoch_steps": epoch_steps})


SCHEDULERS = [
    {"type": "StepLR", "args": {"step_size": 1, "gamma": 0.5}},
    {"type": "ReduceLROnPlateau", "args": {"patience": 0, "threshold": 0.9}},
    {"type": "OneCycleLR", "interval": "step", "args": {"max_lr": 0.01, "total_steps": EPOCHS * STEPS}},
    {
        "type": "SequentialLR",
        "interval": "step",
        "args": {
            "schedulers": [
                {"type": "LinearLR", "args": {"total_iters": 4}},
                {"type": "CosineAnnealingLR", "args": {"T_max": 6}},
            ],
            "milestones": [4],
        },
    },
]


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=lambda scheduler: scheduler["type"])
def test_with_any_scheduler(run_with_stops, scheduler):
    run_with_stops(3, 7, lr_scheduler=scheduler)


@pytest.mark.parametrize("name", ["SGD", "AdamW", "RMSprop", "Adagrad"])
def test_with_any_optimizer(run_with_stops, name):
    run_with_stops(3, 7, optimizer={"type": name, "args": {"lr": 0.01}})


class Averaging(Interrupting):
    """Scores an exponential moving average of the weights."""

    def __init__(self, **parts):
        super().__init__(**parts)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)

    def train_step(self, batch):
        result = super().train_step(batch)
        self.average.update_parameters(self.model)
        return result

    def valid_step(self, batch):
        self.interrupt(self.step, in_validation=True)
        inputs, targets = batch
        return StepResult({"loss": self.loss_fn(self.average(inputs), targets)}, len(targets))

    def stateful(self):
        return super().stateful() | {"average": self.average}


def test_with_a_moving_average_of_the_weights(run_with_stops):
    run_with_stops(3, 7, trainer_class=Averaging, metrics=[])


def test_with_a_scaler_of_gradients(run_with_stops):
    run_with_stops(2, 7, trainer_class=Scaling, metrics=[])


class Adversarial(BaseTrainer):
    """A generator and a discriminator of 8x8 images, with an optimizer each; the generator every second step."""

    stop_at = None
    in_validation = False
    signal = signal.SIGTERM
    interrupt = Interrupting.interrupt

    def __init__(self, run, model):
        super().__init__(run)
        self.model = self.discriminator = model
        self.generator = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.BatchNorm1d(32), nn.Linear(32, 64))
        self.optimizer = torch.optim.Adam(self.discriminator.parameters(), lr=0.001)
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), lr=0.002)

    def fakes(self, count):
        return self.generator(torch.randn(count, 4)).view(-1, 1, 8, 8)

    def train_step(self, batch):
        self.interrupt(self.step + 1, in_validation=False)
        real, _ = batch
        self.optimizer.zero_grad()
        loss = self.discriminator(self.fakes(len(real)).detach())[:, 0].mean() - self.discriminator(real)[:, 0].mean()
        loss.backward()
        self.optimizer.step()
        means = {"loss": loss}
        if self.step % 2:
            self.generator_optimizer.zero_grad()
            means["generator_loss"] = -self.discriminator(self.fakes(len(real)))[:, 0].mean()
            means["generator_loss"].backward()
            self.generator_optimizer.step()
        return StepResult(means, len(real))

    def valid_step(self, batch):
        self.interrupt(self.step, in_validation=True)
        return StepResult({"score": self.discriminator(self.fakes(16))[:, 0].mean()}, 16)  # draws numbers at random

    def stateful(self):
        return {
            "model": self.discriminator,
            "optimizer": self.optimizer,
            "generator": self.generator,
            "generator_optimizer": self.generator_optimizer,
        }


@pytest.mark.parametrize("in_validation", [False, True])
def test_with_two_networks_and_two_optimizers(run_with_stops, in_validation):
    stops = (5, 10) if in_validation else (3, 8)
    run_with_stops(
        *stops, trainer_class=Adversarial, in_validation=in_validation, loss=None, optimizer=None, lr_scheduler=None,
        metrics=[], trainer={"monitor": "max val_score"},
    )  # fmt: skip


class Nested:
    """A metric that keeps what it sees in another one, in a list and in a number."""

    def __init__(self):
        self.matrix, self.seen, self.batches = ConfusionMatrix(10), [], 0
        self.reset()

    def reset(self):
        self.matrix.reset()
        self.seen, self.batches = [], 0

    def update(self, output, target):
        self.matrix.update(output, target)
        self.seen.append(output.max(dim=1).values)
        self.batches += 1

    def compute(self):
        share = self.matrix.compute().diagonal().sum() / self.matrix.compute().sum()
        return share + torch.cat(self.seen).std() + self.batches


def test_with_a_metric_of_the_whole_phase(run_with_stops, write_into):
    write_into(model.metric, Nested)
    run_with_stops(3, 7, metrics=["Nested"])


class Forgetful(Nested):
    """Keeps what it sees where nobody can find it."""

    def __init__(self):
        self.box = iter([[]])
        self.hidden = next(self.box)
        self.counter = type("Counter", (), {"count": 0})()

    def reset(self):
        self.counter.count = 0

    def update(self, output, target):
        self.counter.count += 1

    def compute(self):
        return torch.tensor(float(self.counter.count))


def test_a_metric_that_could_not_be_resumed_is_refused(project, write_into):
    write_into(model.metric, Forgetful)
    message = project.refused_config(metrics=["Forgetful"])
    assert "metrics: 'Forgetful' cannot be saved in the middle of an epoch" in message


class Mindful(Forgetful):
    def state_dict(self):
        return {"count": self.counter.count}

    def load_state_dict(self, state):
        self.counter.count = state["count"]


def test_a_metric_may_have_a_state_of_its_own(run_with_stops, write_into):
    write_into(model.metric, Mindful)
    run_with_stops(3, metrics=["Mindful"])


class Streamed(IterableDataset):
    """The digits as a stream, a share for each worker, with noise."""

    def __init__(self, split):
        self.digits = Digits(split)

    def __iter__(self):
        worker = get_worker_info()
        first, by = (worker.id, worker.num_workers) if worker else (0, 1)
        for i in range(first, len(self.digits), by):
            image, target = self.digits[i]
            yield image + 0.1 * torch.rand(image.shape), target


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [3, STEPS, 7])
def test_a_stream_is_read_again_and_that_is_said(run_with_stops, write_into, workers, step):
    write_into(data_loader.datasets, Streamed)
    out = run_with_stops(step, dataset="Streamed", data_loader={"num_workers": workers})
    again = step % (STEPS + (workers == 2))  # two workers make a short batch each
    assert (f"Reading {again} batches again" in out) == (again > 0)
