"""How the samples of a data set are cut into the folds of a cross-validation: `dataset.fold`."""

import pytest
import torch
from conftest import AUGMENTED, metrics_of
from torch import nn

import data_loader.datasets
from data_loader.datasets import Digits
from utils.batches.folds import fold_numbers, make_datasets
from utils.errors import ConfigError

POOL = 1259 + 179


class Computed(Digits):
    """Makes its samples of what has no entry a sample."""

    def __init__(self, split):
        super().__init__(split)
        self.hidden = {"images": self.images}

    def __getitems__(self, indices):
        return self.hidden["images"][indices].float(), self.targets[indices]


class Numbers(torch.utils.data.IterableDataset):
    def __init__(self, split):
        self.split = split

    def __iter__(self):
        return iter([(torch.rand(1, 8, 8), 1)] * 64)


class Weighted(Digits):
    """Has something for each training sample alone."""

    def __init__(self, split):
        super().__init__(split)
        if split == "train":
            self.weights = torch.ones(len(self))


class Patients(Digits):
    """Says whose its samples are in a form that is no list of entries."""

    groups = property(lambda self: range(len(self)))


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Computed, "Computed cannot be cut: not all that its samples"),
        (Weighted, "Weighted cannot be cut: 'weights' has an entry for each training sample, and none for those of"),
        (Patients, "Patients cannot be cut: 'groups' is no tensor, array or list with an entry a sample"),
        (Numbers, "an iterable data set has no samples"),
    ],
)
def test_what_cannot_be_cut_is_refused(project, write_into, dataset, message):
    write_into(data_loader.datasets, dataset)
    said = project.refused_config(dataset={"type": dataset.__name__, "fold": "1/2"})
    assert f"dataset.fold: {message}" in said


def test_a_fold_validates_without_augmentation_and_trains_with_it():
    def build(split):
        return Digits(split, train_transform=[nn.Dropout(0.5)])

    whole = {split: Digits(split) for split in ("train", "valid", "test")}
    images = torch.cat([whole["train"].images, whole["valid"].images])
    seen = []
    for number in range(1, 6):
        cut = make_datasets(build, ("train", "valid", "test"), f"{number}/5")
        train, valid = cut["train"], cut["valid"]
        assert torch.equal(valid.images, images[valid.sample_numbers])
        assert torch.equal(train.images, images[train.sample_numbers])
        assert len(valid.transforms) == 1 and len(train.transforms) == 2
        assert sorted([*train.sample_numbers.tolist(), *valid.sample_numbers.tolist()]) == list(range(POOL))
        assert torch.equal(cut["test"].images, whole["test"].images)
        assert (train.split, valid.split) == ("train", "valid")
        seen += valid.sample_numbers.tolist()
    assert sorted(seen) == list(range(POOL))


@pytest.mark.parametrize("count", [2, 3, 7])
def test_classes_keep_their_shares(count):
    targets = torch.tensor([0] * 50 + [1] * 31 + [2] * 8)[torch.randperm(89)]
    numbers = fold_numbers(89, count, targets)
    for of in (numbers, *(numbers[targets == target] for target in range(3))):
        sizes = of.bincount(minlength=count + 1)[1:]
        assert sizes.max() - sizes.min() <= 1 and sizes.sum() == len(of)
    assert torch.equal(numbers, fold_numbers(89, count, targets))


def test_what_are_no_classes_is_only_shuffled():
    numbers = fold_numbers(90, 3, torch.rand(90))
    assert numbers.bincount().tolist() == [0, 30, 30, 30]
    assert not torch.equal(numbers, numbers.sort().values)


def test_classes_and_groups_may_be_texts():
    names = ["cat"] * 20 + ["dog"] * 10
    assert fold_numbers(30, 5, names)[:20].bincount().tolist() == [0, 4, 4, 4, 4, 4]
    numbers = fold_numbers(30, 2, groups=names)
    assert len(numbers[:20].unique()) == len(numbers[20:].unique()) == 1


def test_groups_stay_together():
    groups = torch.tensor([7] * 30 + [1] * 20 + [3] * 19 + [4] * 11 + [9] * 10)
    numbers = fold_numbers(90, 3, groups=groups)
    assert all(len(numbers[groups == group].unique()) == 1 for group in groups.unique())
    assert sorted(numbers.bincount()[1:].tolist()) == [30, 30, 30]
    with pytest.raises(ConfigError, match="5 groups cannot be cut into 6 folds"):
        fold_numbers(90, 6, groups=groups)


def test_augmentation_is_that_of_the_config(project):
    """A fold of an augmented set resumes bitwise, as any run."""
    run = project.train(dataset=AUGMENTED | {"fold": "1/4"}, trainer={"epochs": 3})
    again = project.train(dataset=AUGMENTED | {"fold": "1/4"}, trainer={"epochs": 1})
    project.resume(again, "--set", "trainer.epochs=3")
    assert metrics_of(run) == metrics_of(again)
