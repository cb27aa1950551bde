"""The workers of a loader read each sample of a stream once, whether or not the data set knows of workers."""

import json
import multiprocessing
import random
from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch
from conftest import assert_same, load, metrics_of
from numbers_on_ranks import KINDS, WORKERS, Plain, read
from ranks import torchrun
from torch.utils.data import get_worker_info

import data_loader.datasets
from utils.batches.loaders import make_batches
from utils.config.options import LoaderOptions
from utils.errors import BatchError

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores


@pytest.fixture(autouse=True)
def _no_workers_left():
    """A loader in the traceback of an expected error keeps its workers until it is collected, in a later test."""
    yield
    for worker in multiprocessing.active_children():
        worker.kill()


@pytest.mark.parametrize("workers", [0, *WORKERS])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2, 37])
def test_every_sample_comes_once(kind, workers, count):
    assert Counter(chain(*read(kind(count), workers))) == Counter(range(count))


def test_every_sample_comes_once_on_several_processes():
    done = torchrun(script="tests/numbers_on_ranks.py")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == len(KINDS) * len(WORKERS)
    for what, parts in found.items():
        assert sorted(chain(*parts)) == list(range(37)), what


class Drawing(Plain):
    """Shuffles, and changes each sample, with whatever the global generators give."""

    def __iter__(self):
        order = random.sample(range(self.count), self.count)
        for number in order:
            yield torch.tensor([number, torch.rand(()).item(), np.random.rand()], dtype=torch.float64)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_batches_are_the_same_with_any_number_of_workers(workers, drop_last):
    def passes(workers):
        options = LoaderOptions(batch_size=5, num_workers=workers, drop_last=drop_last)
        batches = make_batches(Drawing(37), "train", 0, options)
        return [[batch.tolist() for batch in batches.epoch()] for _ in range(2)]

    assert passes(workers) == passes(0)


def test_streams_of_whole_batches_are_dealt_batch_by_batch():
    options = LoaderOptions(num_workers=2)
    batches = make_batches(Plain(7), "train", 0, options)
    assert [int(batch) for batch in batches.epoch()] == list(range(7))


class Pausing(Plain):
    """Asks once the first sample is given; in `collate`, too, which is nobody's share."""

    def __init__(self, count, asked_at):
        super().__init__(count)
        self.asked_at = asked_at

    def __iter__(self):
        for number in super().__iter__():
            yield number
            if number == self.asked_at and (info := get_worker_info()):
                assert info.num_workers == 2

    def collate(self, samples):
        assert (info := get_worker_info()) is None or info.id < 2
        return torch.stack(samples)


@pytest.mark.parametrize("asked_at", [0, 5, 20])
def test_a_late_question_for_the_worker_is_an_error(asked_at):
    assert sorted(chain(*read(Pausing(37, None), 2))) == list(range(37))
    with pytest.raises(
        BatchError, match=r"Pausing asks get_worker_info\(\) for its worker only after its first sample"
    ):
        read(Pausing(37, asked_at), 2)


class Looking(Plain):
    """Uses all of torch's worker info but what tells the workers apart."""

    def __iter__(self):
        info = get_worker_info()
        assert info is None or (isinstance(info.seed, int) and isinstance(info.dataset.dataset, Looking))
        return super().__iter__()


def test_the_worker_info_stays_as_torch_has_it():
    assert sorted(chain(*read(Looking(37), 2))) == list(range(37))


def test_torch_keeps_the_worker_info_where_it_is_watched(monkeypatch):
    """A private attribute: where torch moves it, workers would share nothing out."""
    from torch.utils.data._utils import worker

    monkeypatch.setattr(worker, "_worker_info", "watched")
    assert get_worker_info() == "watched"


class Learnable(Plain):
    """64 samples; knows nothing of workers."""

    def __init__(self, split):
        super().__init__(64)

    def __len__(self):
        return self.count

    def __iter__(self):
        generator = torch.Generator().manual_seed(1)
        for _ in range(self.count):
            yield torch.randn(1, 8, 8, generator=generator), torch.randint(10, (), generator=generator)


@pytest.mark.parametrize("workers", [2, 3])
def test_a_run_is_the_same_with_workers_and_goes_on_exactly(run_with_stops, project, write_into, workers):
    write_into(data_loader.datasets, Learnable)
    run_with_stops(3, batch_size=10, dataset="Learnable", data_loader={"num_workers": workers})
    (whole, _), plain = project.run_dirs(), project.train(dataset="Learnable", data_loader={"batch_size": 10})
    assert metrics_of(whole) == metrics_of(plain) and metrics_of(plain)[-1]["step"] == 14
    assert_same(load(whole / "last.pth")["model"], load(plain / "last.pth")["model"])


def test_predictions_have_a_row_for_each_sample(project, write_into):
    write_into(data_loader.datasets, Learnable)
    run = project.train(dataset="Learnable", data_loader={"batch_size": 10, "num_workers": 2})
    project.test("-r", run, "--predictions", project.folder / "out.csv")
    assert len((project.folder / "out.csv").read_text().splitlines()) == 1 + 64
