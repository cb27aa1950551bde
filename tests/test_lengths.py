"""Samplers and data sets that do not know how long they are, or are wrong about it."""

import pytest
import torch
from conftest import metrics_of
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import BatchSampler, Dataset, IterableDataset, Sampler

import data_loader.datasets
from base.base_dataset import BaseDataset
from data_loader.datasets import Digits
from utils.batch import move
from utils.batches.loaders import make_batches
from utils.config.options import LoaderOptions


class Endless(Sampler):
    def __init__(self, data_source):
        self.count = len(data_source)

    def __iter__(self):
        while True:
            yield from torch.randperm(self.count).tolist()


class EndlessBatches(Endless):
    def __iter__(self):
        while True:
            yield torch.randperm(self.count)[:64].tolist()


class Refusing(Endless):
    def __len__(self):
        raise NotImplementedError


class Unsure(BatchSampler):
    """Batches of a sampler that does not know its length."""

    def __init__(self, data_source):
        super().__init__(Endless(data_source), 64, False)


@pytest.fixture
def samplers(write_into):
    for sampler in (Endless, EndlessBatches, Refusing, Unsure, Lying):
        write_into(data_loader.datasets, sampler)


def loader(sampler, **options):
    kind = "batch_sampler" if sampler in (EndlessBatches, Unsure) else "sampler"
    return {"batch_size": 64, kind: f"data_loader.datasets.{sampler.__name__}"} | options


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("sampler", [Endless, EndlessBatches, Refusing, Unsure])
def test_a_sampler_without_a_length_trains_for_the_steps_of_an_epoch(project, samplers, sampler, workers):
    run = project.train(data_loader=loader(sampler, num_workers=workers), trainer={"epochs": 2, "epoch_steps": 5})
    assert [line["step"] for line in metrics_of(run)] == [5, 10]


def test_an_endless_sampler_is_gone_on_with_exactly(run_with_stops, samplers):
    run_with_stops(3, data_loader=loader(Endless), trainer={"epoch_steps": 5})


@pytest.mark.parametrize("sampler", [Endless, EndlessBatches, Refusing, Unsure])
def test_without_epoch_steps_it_is_refused(project, samplers, sampler):
    message = project.refused_config(data_loader=loader(sampler))
    assert (
        "error: trainer.epoch_steps: missing. The sampler of data_loader has no __len__, so a pass over the " in message
    )
    assert "Write how many steps make an epoch, or give the sampler a __len__." in message


class Lying(Sampler):
    """Gives fewer or more than it says."""

    claimed = 0

    def __init__(self, data_source):
        self.count = len(data_source)

    def __len__(self):
        return self.claimed

    def __iter__(self):
        yield from range(self.count)


@pytest.mark.parametrize(("claimed", "batches"), [(64, 1), (6400, 100)])
def test_a_length_that_is_wrong_is_told_once(project, samplers, monkeypatch, claimed, batches):
    monkeypatch.setattr(Lying, "claimed", claimed)
    run = project.train(data_loader=loader(Lying))
    assert [line["step"] for line in metrics_of(run)] == [20, 40]
    log = (run / "train.log").read_text()
    assert log.count("Correct its __len__: the schedule and the progress bar rely on it.") == 1
    assert f"data_loader: this pass had 20 batches, but {batches} by the __len__ of the sampler." in log


def test_a_length_that_is_right_is_not_mentioned(project, samplers, monkeypatch):
    monkeypatch.setattr(Lying, "claimed", 1259)
    run = project.train(data_loader=loader(Lying))
    assert "__len__" not in (run / "train.log").read_text()


def test_a_sampler_that_claims_to_be_empty_is_refused(project, samplers):
    message = "data_loader: the sampler gives no batch of the 1259 training samples: its __len__ returns too few."
    assert message in project.refused_config(data_loader=loader(Lying))


class NoLen(Dataset):
    def __init__(self, split):
        pass

    def __getitem__(self, index):
        return torch.zeros(1, 8, 8), 0


class NoLenBelow(BaseDataset):
    __getitem__ = NoLen.__getitem__


class LenOfNone(NoLen):
    def __len__(self):
        return None


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (NoLen, "dataset: NoLen is no data set: it has no __len__. Write def __len__(self), which returns the number"),
        (LenOfNone, "dataset: LenOfNone is no data set: its __len__ returns no number. Write def __len__(self), which"),
        (NoLenBelow, "NoLenBelow' is not a torch.utils.data.Dataset class: it has no __len__."),
    ],
)
@pytest.mark.parametrize("options", [{}, {"fold": "1/2"}])
def test_a_data_set_without_a_length_is_named(project, write_into, dataset, message, options):
    write_into(data_loader.datasets, dataset)
    assert message in project.refused_config(dataset={"type": dataset.__name__} | options)
    if dataset is NoLenBelow:
        assert message in project.refused_config(dataset="data_loader.datasets.NoLenBelow")


class UnsureStream(IterableDataset):
    """A stream may refuse to say how long it is."""

    def __init__(self, split):
        self.digits = Digits(split)

    def __len__(self):
        raise TypeError("only the end tells")

    def __iter__(self):
        return (self.digits[index] for index in range(128))


def test_a_stream_needs_no_length(project, write_into):
    write_into(data_loader.datasets, UnsureStream)
    run = project.train(dataset="UnsureStream", data_loader={"batch_size": 64})
    assert [line["step"] for line in metrics_of(run)] == [2, 4]


class Empty(Digits):
    def __len__(self):
        return 0


def test_an_empty_training_set_and_a_batch_that_is_too_large_are_told(project, write_into):
    write_into(data_loader.datasets, Empty)
    assert (
        "error: dataset: the training set is empty: its __len__ returns 0. Look at what it reads for split 'train'.\n"
    ) in project.refused_config(dataset="Empty")
    assert (
        "error: data_loader.batch_size: 5000 is more than the 1259 training samples, and drop_last leaves out the "
        "incomplete batch. Write at most 1259, or drop_last: false.\n"
    ) in project.refused_config(data_loader={"batch_size": 5000, "drop_last": True})


# ---- batches with a method `to` ----


class Graph:
    """Knows how to move itself, and takes nothing but the device."""

    device = None

    def to(self, device):
        moved = Graph()
        moved.device = device
        return moved


def test_whatever_moves_itself_is_asked_to():
    from collections import namedtuple

    device, edge = torch.device("meta"), namedtuple("Edge", "to start")
    packed = pack_sequence([torch.ones(3, 2), torch.ones(2, 2)])
    batch = {"packed": packed, "rest": [edge(torch.ones(1), torch.ones(2)), Graph(), None, "text"]}
    moved = move(batch, device)
    assert type(moved["packed"]) is type(packed) and moved["packed"].data.device == device
    assert moved["packed"].batch_sizes.device.type == "cpu", "as torch wants it"
    found, graph, *rest = moved["rest"]
    assert type(found) is edge and found.to.device == found.start.device == graph.device == device
    assert rest == [None, "text"]


class Sequences(Digits):
    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        return image[0, : 1 + index % 8], target

    def collate(self, samples):
        inputs, targets = zip(*samples, strict=True)
        return pack_sequence(inputs, enforce_sorted=False), torch.stack(targets)


def test_a_batch_of_packed_sequences_is_loaded_in_a_worker():
    read = [
        next(make_batches(Sequences("valid"), "valid", 0, LoaderOptions(batch_size=8, num_workers=count)).epoch())
        for count in (0, 1)
    ]
    (packed, _), (other, _) = (move(batch, torch.device("cpu")) for batch in read)
    assert torch.equal(packed.data, other.data) and nn.LSTM(8, 2)(packed)[0].data.shape == (len(packed.data), 2)
