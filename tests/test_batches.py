"""Batches are functions of (seed, pass), whoever makes them, and from wherever one goes on."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import (
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

from base.base_dataset import BaseDataset
from utils.batches.loaders import make_batches
from utils.config.options import LoaderOptions
from utils.errors import ConfigError
from utils.seed import seed_everything


class Numbers(Dataset):
    """Sample i is the number i."""

    def __init__(self, count=10):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return torch.tensor(index)


class Noise(Numbers):
    """Sample i is a number at random from each generator."""

    def __getitem__(self, index):
        return torch.tensor([index, torch.rand(()).item(), random.random(), np.random.rand()], dtype=torch.float64)


class Stream(IterableDataset):
    def __init__(self, count=10):
        self.count = count
        self.pass_number = None

    def set_epoch(self, number):
        self.pass_number = number

    def __iter__(self):
        for i in range(self.count):
            yield torch.tensor([i, torch.rand(()).item()], dtype=torch.float64)


def batches_of(dataset, split, seed, **options):
    return make_batches(dataset, split, seed, LoaderOptions(**options))


def passes(batches, count=1, steps=None):
    return [[batch.tolist() for batch in batches.epoch(steps)] for _ in range(count)]


def test_a_pass_is_shuffled_whole_and_a_function_of_seed_and_pass():
    first, second = passes(batches_of(Numbers(), "train", 0, batch_size=4), 2)
    assert [len(batch) for batch in first] == [4, 4, 2]
    assert sorted(sum(first, [])) == list(range(10)) and first != second
    assert [first, second] == passes(batches_of(Numbers(), "train", 0, batch_size=4), 2)
    assert [first] != passes(batches_of(Numbers(), "train", 1, batch_size=4))


@pytest.mark.parametrize("split", ["valid", "test"])
def test_other_splits_are_read_in_order_and_whole(split):
    batches = batches_of(Numbers(), split, 0, batch_size=4, drop_last=True, sampler=None)
    assert passes(batches, 2) == [[[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]] * 2


@pytest.mark.parametrize("workers", [1, 2])
def test_randomness_of_samples_does_not_depend_on_the_workers(workers):
    expected = passes(batches_of(Noise(), "train", 0, batch_size=4), 2)
    assert passes(batches_of(Noise(), "train", 0, batch_size=4, num_workers=workers), 2) == expected
    drawn = torch.tensor(sum(expected[0] + expected[1], []))[:, 1:]
    assert len(drawn.unique()) == drawn.numel(), "no two samples of two epochs share their randomness"


def test_nor_do_the_numbers_that_a_step_draws():
    """NumPy draws normal numbers in pairs, and keeps the second: it must not matter who loads the next batch."""

    def drawn(workers):
        seed_everything(0)
        batches = batches_of(Noise(), "train", 0, batch_size=4, num_workers=workers).epoch()
        return [(np.random.standard_normal(), random.random(), torch.rand(()).item()) for _ in batches]

    assert drawn(0) == drawn(1)


def test_loading_leaves_every_generator_alone():
    for dataset in (Noise(), Stream()):
        seed_everything(3)
        expected = torch.rand(()).item(), random.random(), np.random.rand()
        seed_everything(3)
        passes(batches_of(dataset, "train", 0, batch_size=4))
        assert (torch.rand(()).item(), random.random(), np.random.rand()) == expected


@pytest.mark.parametrize(("steps", "expected"), [(2, [2, 2, 2]), (5, [5, 5, 5])])
def test_epochs_counted_in_steps_go_on_where_the_last_one_ended(steps, expected):
    batches = batches_of(Numbers(), "train", 0, batch_size=4)
    by_steps = passes(batches, 3, steps)
    assert [len(epoch) for epoch in by_steps] == expected
    flat = sum(passes(batches_of(Numbers(), "train", 0, batch_size=4), 6), [])
    assert sum(by_steps, []) == flat[: 3 * steps]


@pytest.mark.parametrize("dataset", [Noise, Stream])
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("taken", [2, 3, 4])
def test_a_position_is_gone_on_from_exactly(dataset, workers, taken):
    def fresh():
        return batches_of(dataset(), "train", 0, batch_size=4, num_workers=workers)

    whole, stopped, resumed = fresh(), fresh(), fresh()
    expected = passes(whole, 1, 8)[0][taken:]
    passes(stopped, 1, taken)
    resumed.load_state_dict(stopped.state_dict())
    assert passes(resumed, 1, 8 - taken)[0] == expected


def test_going_on_loads_no_sample_that_was_passed_over():
    class Recording(Numbers):
        loaded = []

        def __getitem__(self, index):
            self.loaded.append(index)
            return super().__getitem__(index)

    batches = batches_of(Recording(), "train", 0, batch_size=4)
    batches.load_state_dict({"passes": 0, "taken": 2})
    (rest,) = passes(batches)
    assert Recording.loaded == sum(rest, []) and len(Recording.loaded) == 2


def test_an_iterable_data_set_is_told_its_pass():
    stream = Stream()
    batches = batches_of(stream, "train", 0, batch_size=4)
    first, second = passes(batches, 2)
    assert [len(batch) for batch in first] == [4, 4, 2]
    assert stream.pass_number == 1 and first != second and batches.steps_per_pass() is None


def test_an_iterable_data_set_may_give_whole_batches():
    (batches,) = passes(batches_of(Stream(3), "train", 0))
    assert [row[0] for row in batches] == [0.0, 1.0, 2.0]


def test_an_empty_stream_does_not_spin():
    with pytest.raises(ConfigError, match="the training set gave no batch"):
        passes(batches_of(Stream(0), "train", 0, batch_size=4), steps=3)


def test_any_sampler_of_torch():
    def weighted(data_source, generator, **_):
        return WeightedRandomSampler([0.0] * 9 + [1.0], num_samples=8, generator=generator)

    batches = batches_of(Numbers(), "train", 0, batch_size=4, sampler=weighted)
    assert passes(batches, 2) == [[[9] * 4] * 2] * 2

    def with_replacement(data_source, generator, **_):
        return RandomSampler(data_source, replacement=True, generator=generator)

    one, other = (batches_of(Numbers(), "train", 0, batch_size=4, sampler=with_replacement) for _ in range(2))
    assert passes(one, 3) == passes(other, 3)


def test_a_batch_sampler_decides_the_batches_itself():
    class Pairs(Sampler):
        def set_epoch(self, number):
            self.number = number

        def __len__(self):
            return 2

        def __iter__(self):
            yield [self.number, 9]
            yield [0, 1]

    batches = batches_of(Numbers(), "train", 0, batch_size=2, batch_sampler=lambda **_: Pairs())
    assert passes(batches, 2) == [[[0, 9], [0, 1]], [[1, 9], [0, 1]]]


def test_a_sampler_that_draws_from_the_global_generators_is_repeatable_and_leaves_them_alone():
    class Globally(Sampler):
        def __init__(self, count):
            self.count = count

        def __len__(self):
            return self.count

        def __iter__(self):
            yield from torch.randperm(self.count).tolist()

    def fresh():
        return batches_of(Numbers(), "train", 0, batch_size=4, sampler=lambda **_: Globally(10))

    torch.manual_seed(1)
    expected = passes(fresh(), 1, 8)[0]
    torch.manual_seed(2)
    drawn = torch.get_rng_state()
    stopped, resumed = fresh(), fresh()
    passes(stopped, 1, 4)
    resumed.load_state_dict(stopped.state_dict())
    assert passes(resumed, 1, 4)[0] == expected[4:]
    assert torch.equal(drawn, torch.get_rng_state())


def test_a_batch_sampler_without_a_length():
    class Endless(Sampler):
        def __iter__(self):
            while True:
                yield [0, 1]

    batches = batches_of(Numbers(), "train", 0, batch_size=2, batch_sampler=lambda **_: Endless())
    assert batches.steps_per_pass() is None and passes(batches, 1, 3) == [[[0, 1]] * 3]


def test_drop_last_and_no_shuffle():
    batches = batches_of(Numbers(), "train", 0, batch_size=4, drop_last=True, shuffle=False)
    assert passes(batches) == [[[0, 1, 2, 3], [4, 5, 6, 7]]]


def test_a_data_set_of_its_own_collate():
    class Texts(BaseDataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            return torch.ones(index + 1)

        def collate(self, samples):
            return torch.nn.utils.rnn.pad_sequence(samples, batch_first=True)

    (batch,) = passes(batches_of(Texts("test"), "test", 0, batch_size=3))[0]
    assert batch == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


@pytest.mark.parametrize(
    "dataset", [TensorDataset(torch.arange(10)), Subset(TensorDataset(torch.arange(20)), range(10))]
)
def test_torchs_own_data_sets(dataset):
    first = next(iter(batches_of(dataset, "valid", 0, batch_size=4).epoch()))
    assert first[0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size: found 0. Write a whole number of at least 1 or null."),
        ({"batch_size": "64"}, "batch_size: found '64'. Write a whole number of at least 1 or null, without quotes."),
        (
            {"batch_size": 4, "num_workers": -1},
            "num_workers: found -1. Write a whole number from 0 to 512 or null.",
        ),
        ({"batch_size": 4, "shuffle": "no"}, "shuffle: found 'no'. Write true or false or null."),
        ({}, "data_loader.batch_size: missing. Write how many samples make a batch."),
        (
            {"batch_size": 20, "drop_last": True},
            "data_loader.batch_size: 20 is more than the 10 training samples, and drop_last leaves out",
        ),
        (
            {"batch_size": 4, "num_workers": 0, "prefetch_factor": 2},
            "prefetch_factor: found 2, but there are no workers. Leave it out.",
        ),
        ({"batch_size": 4, "sampler": 3}, "sampler: found 3."),
        (
            {"batch_size": 4, "num_workers": 0, "timeout": 10},
            "timeout: found 10, but there are no workers. Leave it out.",
        ),
        ({"batch_size": 4, "prefetch_factor": "2"}, "prefetch_factor: found '2'. Write a whole number"),
        ({"batch_size": 4, "shuffle": True, "sampler": len}, "sampler: excludes shuffle. Leave one out."),
        (
            {"batch_size": 4, "drop_last": True, "batch_sampler": len},
            "drop_last: excludes batch_sampler. Leave one out.",
        ),
    ],
)
def test_values_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ConfigError) as error:
        batches_of(Numbers(), "train", 0, **arguments)
    assert str(error.value).startswith(message)


def test_an_empty_training_set_is_refused():
    with pytest.raises(
        ConfigError, match="dataset: the training set is empty: its __len__ returns 0. Look at what it reads"
    ):
        batches_of(Numbers(0), "train", 0, batch_size=4)
