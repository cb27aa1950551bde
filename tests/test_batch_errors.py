"""A sample that cannot be loaded, a worker that dies or hangs: one message, and a run that goes on to the same end once
it is mended."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import assert_same, load, metrics_of, run_python, wait_for
from torch.utils.data import IterableDataset

import data_loader.datasets
import train as train_script
import trainer.trainer
import utils.batches.loaders as loaders_module
import utils.batches.workers as workers_module
from data_loader.datasets import Digits
from utils.batches.loaders import make_batches
from utils.config.options import LoaderOptions
from utils.errors import BatchError

BATCHES = {"batch_size": 64}


@pytest.fixture
def fails_then_goes_on(project, write_into, monkeypatch):
    """A run that must end with exit code 1 at a bad sample, saved; mended, it must end as one that was never bad."""

    def run(dataset, bad, workers=0, trainer=(), **loader):
        write_into(data_loader.datasets, dataset)
        loader = BATCHES | {"num_workers": workers} | loader
        sections = {"dataset": dataset.__name__, "data_loader": loader, "trainer": dict(trainer)}
        whole = project.train(**sections)
        monkeypatch.setattr(dataset, "bad", bad)
        code, out, err = project.command(train_script, "-c", project.write_config(**sections))
        assert code == 1 and "Traceback" not in out + err, out + err
        stopped = project.run_dirs()[-1]
        assert "Saved after step " in out and 0 < load(stopped / "last.pth")["step"] < 20
        monkeypatch.setattr(dataset, "bad", None)
        project.resume(stopped)
        assert_same(load(whole / "last.pth"), load(stopped / "last.pth"))
        assert metrics_of(whole) == metrics_of(stopped)
        return err

    return run


class Raising(Digits):
    """Whole batches at once; one sample cannot be read."""

    bad = None

    def __getitems__(self, indices):
        if self.split == "train" and self.bad in indices:
            raise OSError(f"cannot identify image file 'img/{self.bad}.png'")
        return super().__getitems__(indices)


class RaisingOneByOne(torch.utils.data.Dataset):
    """A sample at a time; one cannot be read."""

    bad = None

    def __init__(self, split):
        self.split, self.digits = split, Digits(split)

    def __len__(self):
        return len(self.digits)

    def __getitem__(self, index):
        if self.split == "train" and index == self.bad:
            raise OSError(f"cannot identify image file 'img/{self.bad}.png'")
        return self.digits[index]


@pytest.mark.parametrize("dataset", [Raising, RaisingOneByOne])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_exception_in_a_data_set_names_the_sample(fails_then_goes_on, dataset, workers):
    err = fails_then_goes_on(dataset, 700, workers)
    assert err.startswith("error: the train samples, pass 1, batch ")
    assert ": sample 700: OSError: cannot identify image file 'img/700.png'" in err
    assert f"  {Path(__file__).name}:" in err.replace("tests/", "") and "raise OSError" in err, "the data set's line"


class RaisingStream(IterableDataset):
    bad = None

    def __init__(self, split):
        self.split, self.digits = split, Digits(split)

    def __iter__(self):
        for i in range(len(self.digits)):
            if self.split == "train" and i == self.bad:
                raise ValueError("a broken record")
            yield self.digits[i]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("drop_last", [False, True])
def test_an_exception_in_a_stream_names_the_batch(fails_then_goes_on, workers, drop_last):
    err = fails_then_goes_on(RaisingStream, 700, workers, drop_last=drop_last)
    assert "error: the train samples, pass 1, batch 11: ValueError: " in err and "a broken record" in err


class Killing(RaisingOneByOne):
    """The system kills the worker, as it does for want of memory."""

    def __getitem__(self, index):
        if self.split == "train" and index == self.bad:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.digits[index]


def test_a_worker_that_is_killed(fails_then_goes_on):
    err = fails_then_goes_on(Killing, 700, 2)
    assert "a worker process has died (" in err and " by SIGKILL). Often the system kills it for want of memory" in err
    assert "--set data_loader.num_workers=0" in err


class Slow(trainer.trainer.Trainer):
    """Is in the middle of a step whenever a worker, which reads ahead, does something."""

    def train_step(self, batch):
        time.sleep(0.2 if self.step < 5 else 0)
        return super().train_step(batch)


def test_a_worker_that_is_killed_during_a_step_does_not_break_into_it(fails_then_goes_on, write_into):
    write_into(trainer.trainer, Slow)
    fails_then_goes_on(Killing, 200, 1, trainer={"type": "Slow"}, shuffle=False)


class Leaving(RaisingOneByOne):
    def __getitem__(self, index):
        if self.split == "train" and index == self.bad:
            sys.exit(0)
        return self.digits[index]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_sample_that_leaves_the_program_is_an_error(fails_then_goes_on, workers):
    assert ": sample 700: SystemExit: 0" in fails_then_goes_on(Leaving, 700, workers)


def test_a_worker_that_ends_in_a_later_pass_is_noticed_soon_and_explained():
    """Persistent workers are those of the first pass; nothing of the dead one's batches is left to be read."""
    options = LoaderOptions(batch_size=4, num_workers=1, persistent_workers=True, prefetch_factor=1)
    batches = make_batches(Digits("train"), "train", 0, options)
    list(batches.epoch(400))
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGKILL)
    start = time.monotonic()
    with pytest.raises(BatchError, match=r"a worker process has died \(\d+ by SIGKILL\)"):
        list(batches.epoch(400))
    assert time.monotonic() - start < 30


def test_a_batch_that_takes_its_time_is_waited_for(monkeypatch):
    class Sleepy(RaisingOneByOne):
        def __getitem__(self, index):
            time.sleep(1.2 if index == 5 else 0)
            return super().__getitem__(index)

    monkeypatch.setattr(workers_module, "POLL_SECONDS", 0.5)
    options = LoaderOptions(batch_size=4, num_workers=1, shuffle=False)
    monkeypatch.setattr(loaders_module, "POLL_SECONDS", 0.5)
    slow, quick = (make_batches(kind("train"), "train", 0, options) for kind in (Sleepy, RaisingOneByOne))
    assert_same([*slow.epoch(6)], [*quick.epoch(6)])


@pytest.fixture
def busy_batches(monkeypatch):
    """Make batches of a split by a worker that lives on and takes longer for one than a poll."""

    class Sleepy(RaisingOneByOne):
        def __getitem__(self, index):
            time.sleep(0.2)
            return super().__getitem__(index)

    monkeypatch.setattr(loaders_module, "POLL_SECONDS", 0.5)
    options = LoaderOptions(batch_size=4, num_workers=1, persistent_workers=True)
    return lambda split: make_batches(Sleepy(split), split, 0, options)


def test_a_trial_leaves_no_batch_that_persistent_workers_must_be_waited_for(busy_batches):
    batches = busy_batches("train")
    assert_same(batches.trial(), next(batches.epoch(1)))


def test_persistent_workers_may_be_busy_when_a_pass_begins(busy_batches):
    batches = busy_batches("valid")
    assert_same(next(batches.epoch()), next(batches.epoch()))  # while the next ones are still being loaded


def test_passes_leave_no_open_files_behind():
    batches = make_batches(Digits("valid"), "valid", 0, LoaderOptions(batch_size=64, num_workers=2))
    list(batches.epoch())
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        list(batches.epoch())
    wait_for(lambda: len(os.listdir("/proc/self/fd")) <= before, "threads close what workers were sent through")


class Hanging(RaisingOneByOne):
    def __getitem__(self, index):
        if self.split == "train" and index == self.bad:
            time.sleep(3600)
        return self.digits[index]


@pytest.mark.faults
def test_a_worker_that_hangs(fails_then_goes_on):
    err = fails_then_goes_on(Hanging, 700, 1, timeout=2)
    assert "no batch within 2 seconds: a worker hangs." in err and "data_loader.timeout" in err


def test_ten_minutes_are_the_time_of_a_worker_where_nothing_is_said():
    from utils.batches.loaders import _seconds

    assert _seconds(LoaderOptions(batch_size=1, num_workers=1)) == 600
    assert _seconds(LoaderOptions(batch_size=1, num_workers=1, timeout=0)) == 0


HANGING = """
import signal, sys, time
sys.path.insert(0, sys.argv[1])
import data_loader.datasets as datasets
from utils.exit_codes import exit_code_of
import train

class Hanging(datasets.Digits):
    def __getitems__(self, indices):
        if self.split == "train" and 700 in indices:
            time.sleep(3600)
        return super().__getitems__(indices)

Hanging.__module__ = datasets.__name__
datasets.Hanging = Hanging
sys.exit(exit_code_of(lambda: train.main(sys.argv[2:])))
"""


@pytest.mark.faults
@pytest.mark.parametrize(("number", "times", "code"), [(signal.SIGTERM, 1, 143), (signal.SIGINT, 2, 130)])
def test_a_signal_is_heard_while_a_worker_hangs(project, number, times, code):
    config = project.write_config(dataset="Hanging", data_loader=BATCHES | {"num_workers": 2})
    command = [sys.executable, "-c", HANGING, os.getcwd(), "-c", str(config)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        wait_for(lambda: list(project.folder.rglob("last.pth")) or process.poll(), "a run")
        time.sleep(3)  # to come to the sample
        start = time.monotonic()
        for _ in range(times):
            process.send_signal(number)
            time.sleep(0.3)
        assert process.wait(timeout=60) in (code, -number if times == 2 else code)  # as the shell sees it, the same
    assert time.monotonic() - start < 10
    assert load(project.run_dirs()[0] / "last.pth")["step"] > 0 or times == 2


@pytest.mark.faults
def test_no_worker_that_hangs_outlives_its_run(project):
    """A hanging worker hears no SIGTERM: without a SIGKILL Python would wait for it for ever."""
    config = project.write_config(dataset="Hanging", data_loader=BATCHES | {"num_workers": 1, "timeout": 2})
    done = run_python("-c", HANGING, os.getcwd(), "-c", config, timeout=60)
    assert done.returncode == 1 and "a worker hangs" in done.stderr


def test_a_data_set_of_another_size_is_told(project, write_into):
    class Growing(Digits):
        extra = 0

        def __init__(self, split):
            super().__init__(split)
            if split == "train":
                self.images = torch.cat([self.images, self.images[: self.extra]])
                self.targets = torch.cat([self.targets, self.targets[: self.extra]])

    write_into(data_loader.datasets, Growing)
    run = project.train(dataset="Growing")
    Growing.extra = 10
    out = project.resume(run, "--set", "trainer.epochs=3")
    assert "dataset: 1269 samples for 'train' now, 1259 when the checkpoint was made: the resume is not exact." in out
