"""A rehearsal leaves no trace: what a trainer, its modules, data sets and metrics see is the run's own steps."""

import random
from collections import Counter, OrderedDict, deque
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import load, metrics_of
from torch import nn

import data_loader.datasets
import model.metric
import model.model
import train as train_script
import trainer.trainer
from data_loader.datasets import Digits
from trainer.full_trainer import FullTrainer
from utils.snapshot import Snapshot

STEPS, VALID_STEPS = 5, 3  # 1,259 and 179 samples in batches of 256 and 64


class Noting(nn.Module):
    """Notes its calls in every way in which a module can."""

    called = Counter()  # of the class

    def __init__(self, num_classes: int):
        super().__init__()
        self.layer = nn.Linear(64, num_classes)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("unsaved", torch.zeros(()), persistent=False)
        self.state = torch.zeros(1)
        self.calls, self.lengths = 0, {"all": []}

    def forward(self, images):
        Noting.called[self.training] += 1
        self.calls += 1
        self.lengths["all"].append(len(images))
        if self.training:
            self.steps += 1
            self.unsaved += 1
            self.state = self.state + 1
        return self.layer(images.flatten(1)).log_softmax(dim=1)


class NotingDigits(Digits):
    def __init__(self, split: str):
        super().__init__(split)
        self.asked, self.total, self.seen = [], 0, torch.zeros(len(self.images))
        self.generator = random.Random(0)

    def __getitems__(self, indices):
        self.asked.append(len(indices))
        self.total += len(indices)
        self.seen[torch.tensor(indices)] += 1
        self.generator.random()
        return super().__getitems__(indices)


class NotingMetric:
    def __init__(self):
        self.updates, self.kept = 0, deque(maxlen=100)

    def reset(self):
        self.kept.clear()

    def update(self, output, target):
        self.updates += 1
        self.kept.append(len(target))

    def compute(self):
        return torch.tensor(float(sum(self.kept)))


class NotingTrainer(FullTrainer):
    def __init__(self, **parts):
        super().__init__(**parts)
        self.trained, self.validated = 0, []
        self.helper = SimpleNamespace(counts=OrderedDict(a=[0]), array=np.zeros(2), generator=torch.Generator())
        self.start = self.helper.generator.get_state()

    def train_step(self, batch):
        self.trained += 1
        self.helper.counts["a"][0] += 1
        self.helper.array += 1
        torch.rand(1, generator=self.helper.generator)
        return super().train_step(batch)

    def valid_step(self, batch):
        self.validated.append(len(batch[1]))
        return super().valid_step(batch)

    def on_epoch_end(self, values):
        super().on_epoch_end(values)
        train, valid = (self.run.batches[split].dataset for split in ("train", "valid"))
        generator = torch.Generator()
        generator.set_state(self.start)
        for _ in range(self.trained):
            torch.rand(1, generator=generator)
        network, metric = self.model, self.metrics.objects["NotingMetric"]
        values |= {
            "trained": self.trained,
            "validated": sum(self.validated),
            "validations": len(self.validated),
            "helper": self.helper.counts["a"][0],
            "array": self.helper.array.sum() / 2,
            "generator": float(torch.equal(self.helper.generator.get_state(), generator.get_state())),
            "class_calls": sum(Noting.called.values()),
            "module_calls": network.calls,
            "module_lengths": len(network.lengths["all"]),
            "steps": network.steps,
            "unsaved": network.unsaved,
            "state": network.state,
            "train_asked": len(train.asked),
            "train_total": train.total,
            "train_most": train.seen.max(),
            "valid_asked": len(valid.asked),
            "valid_total": valid.total,
            "metric_updates": metric.updates,
        }


@pytest.fixture
def noting(write_into):
    write_into(trainer.trainer, NotingTrainer)
    write_into(model.model, Noting)
    write_into(model.metric, NotingMetric)
    write_into(data_loader.datasets, NotingDigits)
    Noting.called.clear()
    loader = {"batch_size": 256, "num_workers": 0}
    return {
        "model": {"type": "Noting", "args": {"num_classes": 10}},
        "dataset": "NotingDigits",
        "data_loader": loader,
        "metrics": ["NotingMetric"],
        "lr_scheduler": {"type": "StepLR", "args": {"step_size": 1}},
    }


@pytest.mark.parametrize("args", [{}, {"ema_decay": 0.9}, {"micro_batch_size": 256}])
def test_what_is_seen_is_the_run_alone(project, noting, args):
    run = project.train(**noting, trainer={"type": "NotingTrainer", "epochs": 2, "args": args})
    for epoch, line in enumerate(metrics_of(run), start=1):
        train, valid = STEPS * epoch, epoch
        expected = {
            "trained": train, "validated": 179 * epoch, "validations": valid, "helper": train, "array": train,
            "generator": 1, "class_calls": train + valid,
            "module_calls": train + (0 if args.get("ema_decay") else valid),
            "steps": train, "unsaved": train, "state": train, "train_asked": train, "train_total": 1259 * epoch,
            "train_most": epoch, "valid_asked": valid, "valid_total": 179 * epoch, "metric_updates": train + valid,
            "val_NotingMetric": 179, "NotingMetric": 1259,
        }  # fmt: skip
        found = {name: line[name] for name in expected}
        assert found == expected


def test_a_run_begins_as_a_loop_by_hand(project, noting):
    """The first epoch's loss, from the same weights and in the same order."""
    sections = noting | {"data_loader": noting["data_loader"] | {"shuffle": False}, "lr_scheduler": None}
    run = project.train(**sections, trainer={"type": "NotingTrainer", "epochs": 1})
    built = project.trainer(**sections, trainer={"type": "NotingTrainer", "epochs": 1})
    total = 0.0
    for images, targets in zip(*(tensor.split(256) for tensor in _all(Digits("train"))), strict=True):
        built.optimizer.zero_grad()
        loss = nn.functional.nll_loss(built.model(images), targets)
        loss.backward()
        built.optimizer.step()
        total += loss.double().item() * len(targets)
    assert metrics_of(run)[0]["loss"] == pytest.approx(total / 1259, rel=1e-6)


def _all(dataset):
    return dataset.__getitems__(list(range(len(dataset))))


def test_a_resume_rehearses_without_a_trace_too(project, noting):
    sections = noting | {"trainer": {"type": "NotingTrainer", "epochs": 3}}
    whole = project.train(**sections)
    Noting.called.clear()
    first = project.train(**sections | {"trainer": {"type": "NotingTrainer", "epochs": 1}})
    project.resume(first, "--set", "trainer.epochs=3")
    for name, value in load(whole / "last.pth")["model"].items():
        assert torch.equal(load(first / "last.pth")["model"][name], value)


def test_a_step_can_ask_whether_it_is_a_rehearsal(project, write_into, tmp_path):
    class Filing(trainer.trainer.Trainer):
        def valid_step(self, batch):
            with open(tmp_path / "calls", "a") as file:
                file.write(f"{self.is_rehearsal:d}")
            return super().valid_step(batch)

    write_into(trainer.trainer, Filing)
    project.train(trainer={"type": "Filing", "epochs": 1})
    calls = (tmp_path / "calls").read_text()
    assert calls.lstrip("1") == "0" * VALID_STEPS and calls.startswith("1")


def test_check_writes_nothing_and_a_run_follows_as_if_it_had_not_been(project, noting):
    config = project.write_config(**noting, trainer={"type": "NotingTrainer", "epochs": 1})
    before = sorted(project.folder.rglob("*"))
    code, out, err = project.command(train_script, "-c", config, "--check")
    assert code == 0, err
    assert sorted(project.folder.rglob("*")) == before


class Slotted:
    __slots__ = ("count", "items")

    def __init__(self):
        self.count, self.items = 0, set()


def test_a_snapshot_puts_back_each_kind_of_thing_repeatedly():
    tensor, shared = torch.arange(3.0), [1]
    thing = SimpleNamespace(
        slotted=Slotted(),
        tuple=(shared, {"a": shared}),
        tensor=tensor,
        counter=Counter(a=2),
        order=OrderedDict(b=1, a=2),
    )
    thing.bytes, thing.numpy, thing.numbers = bytearray(b"ab"), np.random.default_rng(0), np.arange(3)
    thing.method, thing.itself = thing.slotted.items.add, thing
    before = thing.numpy.bit_generator.state
    snapshot = Snapshot(thing)
    for _ in range(2):
        thing.slotted.count, thing.new = 5, "attribute"
        thing.slotted.items.add(3)
        shared.append(2)
        tensor.mul_(7)
        thing.tensor = torch.zeros(1)
        thing.counter.update("aab")
        thing.order.move_to_end("b")
        thing.order["c"] = 3
        thing.bytes += b"c"
        thing.numpy.random()
        thing.numbers[0] = 9
        snapshot.put_back()
        assert (thing.slotted.count, thing.slotted.items, shared, hasattr(thing, "new")) == (0, set(), [1], False)
        assert thing.tensor is tensor and tensor.tolist() == [0, 1, 2]
        assert thing.counter == {"a": 2} and dict(thing.order) == {"b": 1, "a": 2}
        assert (
            thing.bytes == b"ab" and thing.numpy.bit_generator.state == before and thing.numbers.tolist() == [0, 1, 2]
        )
