"""The methods that a person writes into a data set are called, also where a base class has a faster way around them."""

import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, StackDataset, Subset, default_collate
from torch.utils.data.dataset import random_split

import data_loader.__main__ as look_script
import data_loader.datasets
from data_loader.datasets import Digits
from utils.batches.advice import advise
from utils.batches.loaders import make_batches
from utils.batches.methods import gives_batches, slow_path_note
from utils.config.options import LoaderOptions
from utils.errors import ConfigError


class AllZero(Digits):
    """Changes a sample, and knows nothing of whole batches."""

    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        return image, target * 0


class Below(AllZero):
    """Inherits both."""


class Zeroing:
    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        return image, target * 0


class MixedIn(Zeroing, Digits):
    pass


class Faster(AllZero):
    """Writes the whole batch, too."""

    def __getitems__(self, indices):
        images, targets = super().__getitems__(indices)
        return images, targets * 0


class Collating(Digits):
    def collate(self, samples):
        images, targets = default_collate(samples)
        return images, targets * 0


class SwitchedOff(AllZero):
    __getitems__ = None


class Delegating(Dataset):
    """Passes on what it does not define, `__getitems__` too."""

    def __init__(self, split):
        self.inner = Digits(split)

    def __len__(self):
        return len(self.inner)

    def __getattr__(self, name):
        return getattr(self.__dict__["inner"], name)

    def __getitem__(self, index):
        image, target = self.inner[index]
        return image, target * 0


class Half(Subset):
    """A subset of torch's, as one writes it for a config."""

    def __init__(self, split):
        super().__init__(AllZero(split), range(60))


class HalfCollating(Subset):
    """The `collate` is that of the data set inside."""

    def __init__(self, split):
        super().__init__(Collating(split), range(60))


class PartCollating(Subset):
    def __init__(self, split):
        super().__init__(Digits(split), range(60))

    def collate(self, samples):
        return Collating.collate(self.dataset, samples)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "make",
    [
        AllZero,
        Below,
        MixedIn,
        Faster,
        Collating,
        Delegating,
        Half,
        HalfCollating,
        PartCollating,
        lambda split: random_split(AllZero(split), [100, 79])[0],
        lambda split: Subset(Half(split), range(30)),
        lambda split: ConcatDataset([AllZero(split), AllZero(split)]),
    ],
)
def test_what_is_written_last_is_called(make, workers):
    options = LoaderOptions(batch_size=64, num_workers=workers)
    for _, targets in make_batches(make("valid"), "valid", 0, options).epoch():
        assert targets.dim() == 1 and not targets.any()


@pytest.mark.parametrize("size", [2, 3])
def test_stacked_data_sets_stay_samples(size):
    """torch's StackDataset takes a ready batch of two parts for two samples."""
    digits = Digits("valid")
    batch = next(make_batches(StackDataset(digits, digits), "valid", 0, LoaderOptions(batch_size=size)).epoch())
    (images, targets), (_, same) = batch
    assert torch.equal(images, digits.__getitems__([*range(size)])[0]) and torch.equal(targets, same)


@pytest.mark.parametrize(
    ("make", "is_fast"),
    [
        (Digits, True),
        (Faster, True),
        (lambda split: Subset(Digits(split), range(9)), True),
        (lambda split: Subset(AllZero(split), range(9)), False),
        (lambda split: StackDataset(Digits(split)), False),
        (AllZero, False),
        (Delegating, False),
    ],
)
def test_whole_batches_are_asked_for_where_they_are_the_same(make, is_fast):
    assert gives_batches(make("valid")) is is_fast


@pytest.mark.parametrize(
    ("dataset", "method", "name"), [(AllZero, "__getitem__", "AllZero"), (Collating, "collate", "Collating")]
)
def test_the_slow_path_is_told_once_with_the_way_back(project, write_into, dataset, method, name):
    write_into(data_loader.datasets, dataset)
    code, out, _ = project.command(
        look_script, "-c", project.write_config(dataset=name), "--out", project.folder / "batch.png"
    )
    assert code == 0 and out.count("one at a time") == 1
    assert (
        f"dataset: samples are read one at a time, because {name} overrides {method}, and the __getitems__ of "
        f"UInt8Images would skip it. For whole batches, which are faster, define __getitems__(indices) in {name}."
    ) in out


@pytest.mark.parametrize(
    ("make", "is_told"),
    [(Digits, False), (Faster, False), (PartCollating, False), (Half, True), (Delegating, False), (SwitchedOff, False)],
)
def test_who_is_told_of_the_slow_path(make, is_told):
    assert bool(slow_path_note(make("valid"))) is is_told


def test_a_run_learns_what_its_data_set_says(project, write_into):
    write_into(data_loader.datasets, AllZero)
    run = project.train(dataset="AllZero", trainer={"epochs": 2})
    assert project.test("-r", run)[0]["accuracy"] == 1
    assert "samples are read one at a time" in (run / "train.log").read_text()


def test_advice_does_not_ask_for_a_method_that_is_there(caplog):
    assert advise(Faster("valid"), 0, 3.0, 10.0) and "__getitems__" not in caplog.text


class Torchs(Digits):
    def collate_fn(self, samples):
        return samples


class TorchsStream(IterableDataset):
    def __init__(self, split):
        self.collate_fn = list

    def __iter__(self):
        yield from range(3)


@pytest.mark.parametrize("dataset", [Torchs, TorchsStream])
def test_torchs_word_for_collate_is_refused(project, write_into, dataset):
    write_into(data_loader.datasets, dataset)
    message = f"dataset: {dataset.__name__}.collate_fn is never called. Rename it: def collate(self, samples)."
    assert message in project.refused_config(dataset=dataset.__name__)
    dataset.collate = dataset.__init__  # both: one of them is called
    try:
        make_batches(dataset("valid"), "valid", 0, LoaderOptions(batch_size=4))
    except ConfigError:
        assert dataset is TorchsStream  # written into the object, after the class
    finally:
        del dataset.collate


class ListOfParts(Digits):
    def __getitems__(self, indices):
        return list(super().__getitems__(indices))


def test_a_list_that_is_not_one_entry_a_sample_is_named(project, write_into):
    write_into(data_loader.datasets, ListOfParts)
    config, out = project.write_config(dataset="ListOfParts"), project.folder / "batch.png"
    code, _, err = project.command(look_script, "-c", config, "--out", out)
    assert code == 2 and "Traceback" not in err
    assert "__getitems__ returned a list of 2 for 64 samples. Return a tuple for a ready batch" in err
