"""Workers started by spawn or forkserver are sent the data set: what cannot be sent is one message."""

import json
import os
import sys
import threading
from pathlib import Path

import pytest
from conftest import run_python

import data_loader.datasets
import train as train_script
from data_loader.datasets import Digits
from utils.distributed.cpu import available_cores


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


PASSES = "data_loader.persistent_workers=false"
SPAWN, FORKSERVER = "data_loader.multiprocessing_context=spawn", "data_loader.multiprocessing_context=forkserver"


def results_of_limits(project, *cases):
    """What a run of two workers says under each limit; none may hang, print a traceback, or leave a process behind."""
    config = project.write_config(data_loader={"batch_size": 256, "num_workers": 2})
    done = run_python("tests/limited_train.py", config, *cases, timeout=300)
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(cases)
    for case, result in zip(cases, results, strict=True):
        said = f"{case}: {result}"
        assert result["left"] == 0 and "Traceback" not in said and "Exception ignored" not in said, said
        if result["code"] != 0:
            errors = [line for line in result["said"].splitlines() if "error: " in line]
            assert len(errors) == 1 and "a worker cannot be started: " in errors[0], said
            assert "--set data_loader.num_workers=0." in errors[0], said
            is_begun = "New run in " in result["said"]
            assert result["code"] == (1 if is_begun else 2) and ("Saved after step" in said) == is_begun, said
    return [result["code"] for result in results]


def test_workers_that_cannot_be_started_are_one_message(project):
    cases = ["forks=1", "forks=3", "threads=9", "threads=11", f"forks=2 {SPAWN}"]
    assert set(results_of_limits(project, *cases)) == {2}


def test_workers_that_cannot_be_started_in_a_later_pass_end_the_run_saved(project):
    cases = [f"{case} {PASSES}" for case in ("forks=7", "threads=50", "threads=71")]
    assert set(results_of_limits(project, *cases)) == {1}


@pytest.fixture
def cgroup(monkeypatch):
    """An own one, which takes the limit that `docker --pids-limit` sets."""
    folder = Path("/sys/fs/cgroup/pids" if Path("/sys/fs/cgroup/pids").exists() else "/sys/fs/cgroup")
    made = folder / f"test_{os.getpid()}"
    try:
        made.mkdir()
    except OSError:
        pytest.skip("this user may make no cgroup")
    monkeypatch.setenv("CGROUP", str(made))
    try:
        if not (made / "pids.max").exists():
            pytest.skip("cgroups have no limit on processes here")
        yield
    finally:
        made.rmdir()


@pytest.mark.parametrize(("context", "sizes"), [(PASSES, (2, 8, 30)), (SPAWN, (2, 8)), (FORKSERVER, (3, 8))])
def test_workers_under_a_limit_as_of_docker(project, cgroup, context, sizes):
    codes = results_of_limits(project, *[f"pids={size} {context}" for size in sizes])
    assert codes == [2, 2, 0][: len(sizes)]
