"""A run that is killed, or suspended, and its workers."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from conftest import wait_for

from data_loader.datasets import Digits
from utils.batches.loaders import make_batches
from utils.config.options import LoaderOptions

spawn = multiprocessing.get_context("spawn")  # a fork would inherit the fork server of another test


class Hanging(Digits):
    """Its samples never come. Each worker makes a file in `folder`, named by its number."""

    folder: Path

    def __getitems__(self, indices):
        (self.folder / str(os.getpid())).touch()
        time.sleep(3600)


class Suspending(Digits):
    """Suspends the run that waits for a batch, for longer than the run would wait."""

    def __getitems__(self, indices):
        if 8 in indices:
            os.kill(os.getppid(), signal.SIGSTOP)
            time.sleep(7)
            os.kill(os.getppid(), signal.SIGCONT)
            time.sleep(0.5)
        return super().__getitems__(indices)


def load_all(data, **options):
    options = LoaderOptions(batch_size=4, shuffle=False, **options)
    list(make_batches(data, "train", 0, options).epoch(6))


def started(*arguments, **options):
    process = spawn.Process(target=load_all, args=arguments, kwargs=options)
    process.start()
    return process


@pytest.mark.faults
@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_workers_that_hang_end_when_their_run_is_killed(tmp_path, context):
    data = Hanging("train")
    data.folder = tmp_path
    run = started(data, num_workers=2, multiprocessing_context=context)
    workers = wait_for(lambda: (found := list(tmp_path.iterdir())) and len(found) == 2 and found, "two workers")
    run.kill()
    run.join()
    wait_for(lambda: not any(Path("/proc", worker.name, "fd").exists() for worker in workers), "their end", seconds=30)


@pytest.mark.faults
def test_a_run_that_is_suspended_does_not_take_its_worker_for_one_that_hangs():
    run = started(Suspending("train"), num_workers=1, timeout=5, multiprocessing_context="fork")
    run.join(60)
    assert run.exitcode == 0
