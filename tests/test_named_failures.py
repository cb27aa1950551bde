"""A sample that cannot be loaded is named with its file, and with what is wrong with it."""

import multiprocessing
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset, IterableDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms.functional import pil_to_tensor

import data_loader.__main__ as look_script
import data_loader.datasets
import train as train_script
from data_loader.datasets import Digits
from utils.batches.broken_file import file_behind
from utils.batches.loaders import make_batches
from utils.config.options import LoaderOptions
from utils.errors import BatchError

COUNT, BAD = 12, 7


@pytest.fixture(autouse=True)
def _no_workers_left():
    """A loader in the traceback of an expected error keeps its workers until it is collected, in a later test."""
    yield
    for worker in multiprocessing.active_children():
        worker.kill()


@pytest.fixture
def folder(tmp_path):
    """A class of photographs, one of which is cut off."""
    (tmp_path / "photos" / "a").mkdir(parents=True)
    for number in range(COUNT):
        noise = np.random.default_rng(number).integers(0, 255, (32, 32, 3)).astype(np.uint8)
        Image.fromarray(noise).save(tmp_path / "photos" / "a" / f"{number:02}.jpg")
    bad = tmp_path / "photos" / "a" / f"{BAD:02}.jpg"
    bad.write_bytes(bad.read_bytes()[:-200])
    return tmp_path / "photos"


def read(path):
    with Image.open(path) as image:
        return pil_to_tensor(image)


class Photos(Dataset):
    def __init__(self, folder):
        self.paths = sorted(folder.rglob("*.jpg"))

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return read(self.paths[index])


class TextPaths(Photos):
    """Pairs of a text and a number, as torchvision keeps them."""

    def __getitem__(self, index):
        sample = str(self.paths[index]), 0
        with Image.open(sample[0]) as image:
            return pil_to_tensor(image)


class WholeBatches(Photos):
    def __getitems__(self, indices):
        return torch.stack([read(self.paths[index]) for index in indices])


class Wrapped(Photos):
    """Says it in words of its own."""

    def __getitem__(self, index):
        try:
            return super().__getitem__(index)
        except OSError as error:
            raise ValueError("a sample is broken") from error


class Stream(IterableDataset):
    def __init__(self, folder):
        self.photos = Photos(folder)

    def __iter__(self):
        yield from self.photos


class Folder(ImageFolder):
    def __init__(self, folder):
        super().__init__(folder, transform=nn.Identity())

    def collate(self, samples):
        return torch.stack([pil_to_tensor(image) for image, _ in samples])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", [Photos, TextPaths, WholeBatches, Wrapped, Stream, Folder])
def test_the_file_of_a_sample_that_cannot_be_read_is_named(folder, kind, workers):
    batches = make_batches(kind(folder), "valid", 0, LoaderOptions(batch_size=4, num_workers=workers))
    with pytest.raises(BatchError) as caught:
        list(batches.epoch())
    sample = "" if kind is Stream else f"sample {BAD}, "
    error = "ValueError: a sample is broken" if kind is Wrapped else "OSError: image file is truncated"
    start = f"the valid samples, pass 1, batch 2: {sample}file {folder}/a/{BAD:02}.jpg: {error}"
    assert str(caught.value).startswith(start)


def test_a_file_is_named_once_and_relative_to_the_current_directory(folder, monkeypatch):
    def error_of(path):
        try:
            read(path)
        except OSError as error:
            return error

    assert file_behind(error_of(folder / "missing.jpg")) is None, "the message has it"
    monkeypatch.chdir(folder)
    assert file_behind(error_of(folder / "a" / f"{BAD:02}.jpg")) == f"a/{BAD:02}.jpg"


def test_files_that_are_no_data_are_not_named(folder):
    def fail(value):
        raise ValueError("?")

    for value in (__file__, np.__file__, str(folder), "", "a\0b", "x" * 5000, [__file__] * 3, {"a": 1}, None):
        with pytest.raises(ValueError) as caught:
            fail(value)
        assert file_behind(caught.value) is None
    paths = sorted(folder.rglob("*.jpg"))
    with pytest.raises(ValueError) as caught:
        fail(paths)
    assert file_behind(caught.value) is None, "one of all files is no hint"


class Listed(Digits):
    """Reads a file for each sample; only the first samples are there."""

    def __init__(self, split):
        super().__init__(split)
        self.paths = sorted(self.folder.rglob("*.jpg")) if split == "train" else []

    def __getitem__(self, index):
        if self.paths:
            read(self.paths[index % COUNT])
        return super().__getitem__(index)


def test_a_check_and_a_run_name_the_file(project, write_into, folder, monkeypatch):
    write_into(data_loader.datasets, Listed)
    monkeypatch.setattr(Listed, "folder", folder, raising=False)
    config = project.write_config(dataset="Listed")
    for arguments in ([], ["--check"]):
        code, out, err = project.command(train_script, "-c", config, *arguments)
        assert code != 0 and f"file {folder}/a/{BAD:02}.jpg" in err and "Traceback" not in err, out + err


def test_a_check_names_the_file_of_a_sample_that_the_first_batch_does_not_have(look, write_into, folder, monkeypatch):
    class Late(Listed):
        def __getitem__(self, index):
            if self.paths and index == 1200:
                read(self.paths[BAD])
            return Digits.__getitem__(self, index)

    write_into(data_loader.datasets, Late)
    monkeypatch.setattr(Late, "folder", folder, raising=False)
    problems = look(dataset="Late", data_loader={"batch_size": 8})[1]
    assert re.fullmatch(
        r"dataset: train sample 1200 cannot be loaded: OSError: image file is truncated \(\d+ bytes not processed\) "
        rf"\(file {folder}/a/{BAD:02}.jpg\)\. Mend it or leave it out\.",
        problems[0],
    )


# ---- samples that do not fit ----


def refusal(project, write_into, dataset):
    """What is said before a run of it, without lines of torch's code."""
    write_into(data_loader.datasets, dataset)
    config = project.write_config(dataset=dataset.__name__)
    code, _, err = project.command(look_script, "-c", config, "--out", project.folder / "x.png")
    assert code == 2 and "Traceback" not in err and "site-packages" not in err, err
    return err


class Uneven(Digits):
    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        return image[:, : 4 + index % 2 * 4], target


class UnevenArrays(Uneven):
    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        return {"image": image.numpy(), "target": target}


class UnevenStream(IterableDataset):
    def __init__(self, split):
        self.samples = Uneven(split)

    def __iter__(self):
        return (self.samples[index] for index in range(64))


@pytest.mark.parametrize("dataset", [Uneven, UnevenArrays, UnevenStream])
def test_samples_of_unequal_shape_are_named(project, write_into, dataset):
    name = r"\d of the batch" if dataset is UnevenStream else r"\d+"
    assert re.search(
        rf"the train samples, pass 1, batch 1: sample {name} has the shape \(1, [48], 8\), sample {name} the shape "
        r"\(1, [48], 8\)\. Resize or crop all samples to one size, or write collate\(samples\) in the data set\.",
        refusal(project, write_into, dataset),
    )


class WithoutReturn(Digits):
    def __getitem__(self, index):
        super().__getitem__(index)


def test_a_sample_that_is_none_is_named(project, write_into):
    assert re.search(
        r"batch 1: sample \d+ is None: does __getitem__ return a sample\?", refusal(project, write_into, WithoutReturn)
    )


class LeavingOut(Digits):
    """The author's own way with broken samples."""

    def __getitem__(self, index):
        return super().__getitem__(index) if index % 5 else None

    def collate(self, samples):
        return super().collate([sample for sample in samples if sample is not None])


def test_none_is_a_sample_where_the_data_set_collates_it():
    batch = next(make_batches(LeavingOut("valid"), "valid", 0, LoaderOptions(batch_size=10)).epoch())
    assert len(batch[0]) == 8


class Unconverted(Digits):
    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        return Image.fromarray(image[0].numpy()), target


def test_a_sample_that_no_batch_can_hold_is_named(project, write_into):
    said = refusal(project, write_into, Unconverted)
    assert re.search(r"batch 1: sample \d+: TypeError: default_collate: batch must contain tensors, .*PIL\.", said)


class Sometimes(Digits):
    """Fails in the first attempt only."""

    failed = False

    def __getitems__(self, indices):
        if not self.failed:
            Sometimes.failed = True
            raise OSError("a busy server")
        return super().__getitems__(indices)


def test_samples_that_only_fail_together_are_listed(project, write_into):
    write_into(data_loader.datasets, Sometimes)
    with pytest.raises(
        BatchError, match=r"one of the samples 0, 1, 2, or combining them into a batch: OSError: a busy"
    ):
        next(make_batches(Sometimes("valid"), "valid", 0, LoaderOptions(batch_size=3)).epoch())
