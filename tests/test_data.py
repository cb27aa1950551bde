"""The embedded data, splits and transforms."""

import hashlib
import random

import numpy as np
import pytest
import torch
from conftest import ROOT

from data_loader.datasets import Digits
from data_loader.splits import stratified_split
from data_loader.transforms import NormalizeUint8, RandomFlip, RandomShift, apply_to_batch
from utils.errors import ConfigError

# ---- the embedded digits ----


def test_digits_are_small_whole_and_fixed():
    path = ROOT / "data_loader" / "digits.gz"
    assert path.stat().st_size < 100_000
    digest = hashlib.sha256()
    counts = {}
    for split in ("train", "valid", "test"):
        digits = Digits(split)
        counts[split] = len(digits)
        digest.update(digits.images.numpy().tobytes() + digits.targets.numpy().tobytes())
    assert counts == {"train": 1259, "valid": 179, "test": 359}
    assert digest.hexdigest() == "4fbe2ea11a3494811ed2cbd4f4c6e102a81eb5daf24d743abafbe2b5cbe51f13"


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_digits_are_stratified(split):
    """178 to 183 images of most digits: each has its share in each split, to within an image or so."""
    targets = torch.cat([Digits(name).targets for name in ("train", "valid", "test")])
    digits = Digits(split)
    expected = targets.bincount() * len(digits) / len(targets)
    assert ((digits.targets.bincount() - expected).abs() < 1.5).all()


def test_digits_are_those_that_scikit_learn_carries():
    """Zeros and ones of the original order stand in it; its first image is a well-known zero."""
    first = [0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0]
    everything = torch.cat([Digits(name).images.flatten(1) for name in ("train", "valid", "test")])
    assert (everything[:, :16] == torch.tensor(first, dtype=torch.uint8)).all(1).sum() == 1
    assert everything.max() == 16


def test_a_batch_at_once_equals_its_samples():
    digits = Digits("valid")
    images, targets = digits.__getitems__([3, 1, 4])
    for i, index in enumerate([3, 1, 4]):
        assert torch.equal(images[i], digits[index][0]) and targets[i] == digits[index][1]
    assert images.dtype == torch.float32 and targets.dtype == torch.int64
    assert abs(Digits("train").__getitems__(list(range(1259)))[0].mean()) < 0.01


def test_a_split_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match="split is 'dev'. Choices: train, valid, test"):
        Digits("dev")


# ---- cutting a validation set ----


def test_a_split_is_stratified_disjoint_and_whole():
    targets = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    train, valid = stratified_split(targets, second_size=20, seed=0)
    assert targets[valid].bincount().tolist() == [12, 6, 2]
    assert sorted([*train.tolist(), *valid.tolist()]) == list(range(100))


@pytest.mark.parametrize(("counts", "size"), [([250] * 4, 4), ([333, 333, 334], 100), ([1] * 10, 3), ([5, 995], 1)])
def test_a_split_has_exactly_the_size_asked_for(counts, size):
    targets = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    train, valid = stratified_split(targets, size, seed=0)
    assert (len(train), len(valid)) == (len(targets) - size, size)


def test_a_split_is_a_function_of_its_seed_and_leaves_every_generator_alone():
    targets = torch.arange(100) % 4
    np.random.seed(5), random.seed(5), torch.manual_seed(5)
    first = stratified_split(targets, 20, seed=1)[1]
    drawn = np.random.rand(), random.random(), torch.rand(())
    np.random.seed(5), random.seed(5), torch.manual_seed(5)
    assert drawn == (np.random.rand(), random.random(), torch.rand(()))
    assert torch.equal(first, stratified_split(targets, 20, seed=1)[1])
    assert not torch.equal(first, stratified_split(targets, 20, seed=2)[1])


@pytest.mark.parametrize("size", [-1, 100, 0.1])
def test_a_size_that_cannot_be_is_refused(size):
    with pytest.raises(ConfigError, match="Write a whole number from 0 to 99"):
        stratified_split(torch.zeros(100, dtype=torch.int64), size, seed=0)


def test_size_zero_leaves_no_validation():
    train, valid = stratified_split(torch.zeros(10, dtype=torch.int64), 0, seed=0)
    assert (len(train), len(valid)) == (10, 0)


# ---- transforms ----


def test_each_sample_of_a_batch_is_shifted_and_flipped_by_itself():
    torch.manual_seed(0)
    pixels = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4).repeat(64, 1, 1, 1)
    assert len(RandomShift(1)(pixels).unique(dim=0)) == 9
    flipped = RandomFlip()(pixels)
    assert len(flipped.unique(dim=0)) == 2
    assert torch.equal(flipped[0], pixels[0]) or torch.equal(flipped[0], pixels[0].flip(-1))


def test_a_shift_moves_what_it_keeps():
    pixels = torch.ones(8, 3, 5, 5, dtype=torch.uint8)
    shifted = RandomShift(2)(pixels)
    assert shifted.shape == pixels.shape and set(shifted.unique().tolist()) == {0, 1}
    assert torch.equal(RandomShift(0)(pixels), pixels)


def test_normalizing_uint8():
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    assert NormalizeUint8([0.5], [0.25])(pixels).flatten().tolist() == [-2.0, 2.0]


def test_a_transform_of_torchvision_draws_for_each_sample():
    from torchvision.transforms import v2

    pixels = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).repeat(64, 1, 1, 1)
    cropped = apply_to_batch([v2.RandomCrop(4)], pixels)
    assert cropped.shape == (64, 1, 4, 4) and len(cropped.unique(dim=0)) > 5
    assert apply_to_batch([v2.CenterCrop(4)], pixels).shape == (64, 1, 4, 4)
