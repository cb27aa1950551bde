"""Workers started by spawn or forkserver are sent the data set: what cannot be sent is one message."""

import sys
import threading

import pytest
from conftest import run_python

import data_loader.datasets
import train as train_script
from data_loader.datasets import Digits
from utils.cpu import available_cores


class Lambda(Digits):
    def __init__(self, split):
        super().__init__(split)
        self.change = lambda image: image


class Handle(Digits):
    """Keeps an open file, as those of h5py or lmdb do."""

    def __init__(self, split):
        super().__init__(split)
        self.file = sys.__stdout__


class Nested(Digits):
    def __init__(self, split):
        super().__init__(split)
        self.parts = {"lock": [threading.Lock()]}


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize(
    ("dataset", "culprit", "reason"),
    [
        (Lambda, "Lambda.change", "lambda"),
        (Handle, "Handle.file", "cannot pickle '_io.TextIOWrapper'"),
        (Nested, "Nested.parts['lock'][0]", "cannot pickle '_thread.lock'"),
    ],
)
def test_what_of_a_data_set_cannot_be_sent_is_named(project, write_into, method, dataset, culprit, reason):
    write_into(data_loader.datasets, dataset)
    loader = {"batch_size": 64, "num_workers": 2, "multiprocessing_context": method}
    message = project.refused_config(dataset=dataset.__name__, data_loader=loader)
    assert message.startswith(f"error: dataset: {culprit} cannot be sent to a worker that {method!r} starts: ")
    assert reason in message and len(message.splitlines()) == 1
    assert "Write a named function instead of a lambda, open files in __getitem__, or use --set " in message


def test_a_fold_of_such_a_data_set_and_a_class_within_a_function(project, write_into):
    class Local(Digits):
        """Its module has no such name."""

    write_into(data_loader.datasets, Local)
    loader = {"batch_size": 64, "num_workers": 1, "multiprocessing_context": "spawn"}
    message = project.refused_config(dataset="Local", data_loader=loader)
    assert "dataset: Local cannot be sent to a worker that 'spawn' starts: " in message
    write_into(data_loader.datasets, Lambda)
    message = project.refused_config(dataset={"type": "Lambda", "fold": "1/2"}, data_loader=loader)
    assert "Lambda.change cannot be sent" in message or ".dataset.change cannot be sent" in message, message


def test_forked_workers_need_not_be_sent_anything(project, write_into):
    write_into(data_loader.datasets, Lambda)
    loader = {"batch_size": 64, "num_workers": 1, "multiprocessing_context": "fork"}
    code, out, err = project.command(
        train_script, "-c", project.write_config(dataset="Lambda", data_loader=loader, trainer={"epochs": 1})
    )
    assert code == 0, out + err


def test_more_workers_than_cores_are_one_line_before_the_run(project):
    """torch warns of them twice, below the results."""
    config = project.write_config(data_loader={"batch_size": 64, "num_workers": 64}, trainer={"epochs": 1})
    done = run_python("train.py", "-c", config, "--set", "trainer.valid_steps=1", "trainer.epoch_steps=1")
    assert done.returncode == 0 and done.stderr == ""
    first, *rest = done.stdout.splitlines()
    cores = available_cores()
    told = (
        f"data_loader.num_workers: 64 are more than the {cores} cores of this process, and may be slower. Try {cores}."
    )
    assert first == told and "64" not in rest[0] and rest[0].startswith("New run in ")
