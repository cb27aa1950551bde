"""What a check says about samples and classes, and about runs whose data are unlike the shipped ones."""

import re
import time

import numpy
import pytest
import torch
from conftest import AUGMENTED
from torch import nn
from torch.utils.data import Dataset, IterableDataset, Subset

import data_loader.datasets
import model.model
import trainer.trainer
from base.base_trainer import BaseTrainer
from base.checks.check_data import _digest_of
from base.checks.report import listed
from data_loader.datasets import Digits
from logger.means import StepResult
from utils.batch import batch_size

FREE = {"monitor": "off", "early_stop": None}
SHARED = "samples of valid in train"


def leaking(count, cls=Digits):
    """A data set, the first `count` of whose validation samples are of the training set."""

    class Leaking(cls):
        def __init__(self, split, **args):
            super().__init__(split, **args)
            if split == "valid":
                train = Digits("train")
                self.images = torch.cat([train.images[:count], self.images[count:]])
                self.targets = torch.cat([train.targets[:count], self.targets[count:]])

    return Leaking


@pytest.mark.parametrize("dataset", [{}, AUGMENTED], ids=["plain", "augmented"])
@pytest.mark.parametrize(("count", "is_problem"), [(1, False), (2, True)])  # 1 % of 179 lies in between
def test_samples_that_stand_in_both_splits_are_counted(look, write_into, dataset, count, is_problem):
    write_into(data_loader.datasets, leaking(count))
    rows, problems = look(dataset=dataset | {"type": "Leaking"})
    assert rows[SHARED] == f"{count} of 179"
    assert problems == is_problem * [
        f"dataset: {count} of 179 validation samples stand in the training set, too, so that val_ values flatter. "
        "Leave them out of one of the splits."
    ]


class Rows(Dataset):
    """Samples in the manner of torchvision's data sets, with a `transform` for each."""

    def __init__(self, split):
        self.inputs = torch.rand(60, 64, generator=torch.Generator().manual_seed(0)).view(-1, 1, 8, 8)
        self.transform = self.noise if split == "train" else self.as_it_is

    def noise(self, inputs):
        return inputs + torch.randn(())

    def as_it_is(self, inputs):
        return inputs

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        return self.transform(self.inputs[index]), index % 10


class Parts(Subset):
    """Two thirds and the last half of the same samples."""

    def __init__(self, split):
        super().__init__(Rows(split), range(40) if split == "train" else range(30, 60))


class Noisy(Rows):
    """Draws its noise where nobody looks for it."""

    def __getitem__(self, index):
        inputs, target = super().__getitem__(index)
        return (self.noise(inputs) if self.transform == self.noise else inputs), target


@pytest.mark.parametrize(("dataset", "count"), [(Rows, "60 of 60"), (Parts, "10 of 30")])
def test_augmentation_hides_nothing(look, write_into, dataset, count):
    write_into(data_loader.datasets, dataset)
    rows, (problem,) = look(dataset=dataset.__name__)
    assert rows[SHARED] == count and f"dataset: {count} validation samples" in problem


def test_samples_that_are_random_all_the_same_are_not_compared(look, write_into):
    class Drawn(Noisy):
        def __init__(self, split):
            super().__init__(split)
            self.augmentation, self.transform = self.noise, self.as_it_is

        def __getitem__(self, index):
            return self.augmentation(self.inputs[index]), index % 10

    write_into(data_loader.datasets, Drawn)
    rows, problems = look(dataset="Drawn")
    assert rows[SHARED] == "not looked at: a sample is another one each time that it is read" and problems == []


def test_where_time_is_over_it_says_how_far_it_came(look, write_into, monkeypatch):
    class Slow(Digits):
        def __getitem__(self, index):
            time.sleep(0.002)
            return super().__getitem__(index)

    write_into(data_loader.datasets, Slow)
    monkeypatch.setattr("base.checks.check_data.SECONDS", 0.2)
    rows, problems = look(dataset="Slow", model={"type": "LeNet", "args": {"num_classes": 12}}, metrics=[])
    assert problems == [], "a class may come later"
    seen = re.fullmatch(r"0 of (\d+); looked at the first (\d+) of train and (\d+) of valid", rows[SHARED])
    assert 0 < int(seen[1]) == int(seen[3]) < 179 and 0 < int(seen[2]) < 1259
    assert rows["training samples"].endswith(f"; looked at the first {seen[2]} of train")


# ---- classes ----


def test_a_class_without_a_training_sample_is_named(look):
    _, problems = look(model={"type": "LeNet", "args": {"num_classes": 12}}, metrics=[])
    assert problems == [
        "dataset: no training sample is of class 10, 11, though the loss tells 12 apart. Give the model fewer outputs, "
        "or the training set such samples."
    ]


class Rotating(trainer.trainer.Trainer):
    """Tells turned inputs from each other: classes of its own, which are not those of the data set."""

    def train_step(self, batch):
        inputs, targets = batch
        return super().train_step((inputs, targets % 4))


def test_classes_of_the_step_alone_are_not_those_of_the_data_set(look_with):
    _, problems = look_with(Rotating, model={"type": "LeNet", "args": {"num_classes": 12}}, metrics=[])
    assert problems == []


def test_targets_that_are_no_classes_have_no_row(look, write_into):
    class Sums(Rows):
        def __getitem__(self, index):
            inputs, _ = super().__getitem__(index)
            return inputs, inputs.sum().expand(10)

    write_into(data_loader.datasets, Sums)
    rows, _ = look(dataset="Sums", loss="mse_loss", metrics=[])
    assert "training samples" not in rows and rows["initial loss"].startswith("loss ")


# ---- other data ----


def test_a_sample_that_cannot_be_loaded_is_named(look, write_into):
    class Broken(Digits):
        def __getitem__(self, index):
            if index == 1200 and self.split == "train":
                raise OSError("no such file")
            return super().__getitem__(index)

    write_into(data_loader.datasets, Broken)
    rows, problems = look(dataset="Broken")
    assert rows[SHARED] == "not looked at: a sample cannot be read alone"
    assert problems == ["dataset: train sample 1200 cannot be loaded: OSError: no such file. Mend it or leave it out."]


def test_without_a_validation_set(look, write_into):
    class Unvalidated(Digits):
        def __len__(self):
            return 0 if self.split == "valid" else super().__len__()

    write_into(data_loader.datasets, Unvalidated)
    rows, problems = look(dataset="Unvalidated", trainer=FREE)
    assert problems == [] and rows[SHARED] == "there is no validation set"
    assert "seconds a validation step" not in rows and rows["time of the run"].endswith(": 2 epochs of 20 steps")


class Stream(IterableDataset):
    def __init__(self, split):
        self.rows = Rows(split)

    def __iter__(self):
        return (self.rows[index] for index in range(len(self.rows)))


@pytest.mark.parametrize(
    ("epoch_steps", "time"),
    [
        (None, "unknown length; trainer.epoch_steps would tell"),
        (9, ": 2 epochs of 9 steps, and a validation of unknown length"),
    ],
)
def test_with_an_iterable_data_set(look, write_into, epoch_steps, time):
    write_into(data_loader.datasets, Stream)
    loader = {"batch_size": 10, "shuffle": None}
    rows, problems = look(dataset="Stream", data_loader=loader, trainer={"epoch_steps": epoch_steps})
    assert problems == [] and rows[SHARED] == "not looked at: train is an iterable data set"
    assert rows["time of the run"].endswith(time)


class Named(Dataset):
    """Batches that are dicts, and no loss at all."""

    def __init__(self, split):
        self.points = torch.linspace(0, 1, 30) + (split == "valid")

    def __len__(self):
        return len(self.points)

    def __getitem__(self, index):
        return {"point": self.points[index, None], "name": str(index)}


class Scale(nn.Linear):
    def __init__(self):
        super().__init__(1, 1)


class ByHand(BaseTrainer):
    """Moves the weights without an optimizer."""

    def __init__(self, run, model):
        super().__init__(run)
        self.model = model

    def train_step(self, batch):
        self.model.zero_grad()
        error = (self.model(batch["point"]) ** 2).mean()
        error.backward()
        with torch.no_grad():
            for weight in self.model.parameters():
                weight -= 0.1 * weight.grad
        return StepResult({"error": error}, batch_size(batch))

    def valid_step(self, batch):
        return StepResult({"error": (self.model(batch["point"]) ** 2).mean()}, batch_size(batch))

    def stateful(self):
        return {"model": self.model}


def test_a_trainer_without_loss_and_optimizer_and_batches_by_name(look_with, write_into):
    write_into(data_loader.datasets, Named)
    write_into(model.model, Scale)
    nothing = {"loss": None, "optimizer": None, "lr_scheduler": None, "metrics": []}
    rows, problems = look_with(ByHand, dataset="Named", model="Scale", **nothing, trainer=FREE)
    assert problems == [] and rows["gradients"] == "each step has its own"
    assert rows["initial loss"].startswith("error ") and rows[SHARED] == "0 of 30"


# ---- what makes two samples the same ----


def test_digests_tell_values_types_and_shapes_apart():
    from PIL import Image

    picture = Image.new("L", (2, 3), 7)
    samples = [
        torch.zeros(2, 3), torch.zeros(3, 2), torch.zeros(2, 3).int(), torch.ones(2, 3), torch.ones(2, 3).bfloat16(),
        numpy.zeros((2, 3)), numpy.zeros((3, 2)), picture, picture.resize((3, 2)), "a", 1, 2, None,
        {"a": ["a", "b"]}, {"a": ["ab"]}, {"a": ["a", ["b"]]}, {"a": torch.zeros(2)}, {"b": torch.zeros(2)},
        (torch.zeros(2), 1), (1, torch.zeros(2)), (1, torch.ones(2)), (torch.ones(()), 1), (torch.ones(()), 2),
    ]  # fmt: skip
    assert len({_digest_of(sample) for sample in samples}) == len(samples)
    assert _digest_of((torch.ones(2), 1)) == _digest_of((torch.ones(2), 2)), "the target is no part of the inputs"
    assert _digest_of(torch.arange(6).view(2, 3).T) == _digest_of(torch.arange(6).view(2, 3).T.contiguous())
    assert _digest_of({"a": 1, "b": 2}) == _digest_of({"b": 2, "a": 1})
    assert _digest_of((object(), 1)) is None


def test_names_are_listed_up_to_a_few():
    assert listed([]) == "" and listed("abcd") == "a, b, c, d" and listed("abcdef") == "a, b, c, d and 2 more"
