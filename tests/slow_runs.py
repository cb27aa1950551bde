"""Processes that train slowly, so that something can happen to them in the middle of an epoch."""

import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT, load, metrics_of, wait_for

FAULTY = ["-c", "import runpy, sys; {patch}; sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"]
SLOW = {"trainer": {"type": "Faulty", "args": {"seconds": 0.02}, "epochs": 10_000}, "data_loader": {"batch_size": 256}}


class Runner:
    """Starts processes that train slowly, and ends those that are left."""

    def __init__(self):
        self.patch = "pass"
        self.processes = []

    def start(self, *arguments):
        command = [sys.executable, "-c", FAULTY[1].format(patch=f"exec({self.patch!r})"), "tests/faulty_train.py"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        command += map(str, arguments)
        self.processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **pipes))
        return self.processes[-1]

    def end(self):
        for process in self.processes:
            process.kill()
            process.communicate()


@pytest.fixture
def runner():
    runner = Runner()
    yield runner
    runner.end()


def first_run(project, runner):
    """A process that trains, and its run directory, after two epochs."""
    process = runner.start("-c", project.write_config(**SLOW), "-d", "cpu")
    wait_for(lambda: list(project.folder.rglob("checkpoint-epoch2.pth")) or process.poll(), "two epochs")
    (run,) = project.run_dirs()
    return process, run


def assert_second_takes_over(first, second, run):
    """The first process stops with a message; the second one has written each epoch once, and good checkpoints."""
    out, _ = first.communicate(timeout=60)
    assert first.returncode == 1 and "Traceback" not in out
    assert f"process {second.pid} on " in out and "This process stops, and does not save." in out
    epoch = metrics_of(run)[-1]["epoch"]
    wait_for(lambda: second.poll() or metrics_of(run)[-1]["epoch"] > epoch + 1, "two more epochs")
    second.send_signal(signal.SIGTERM)
    assert "Saved after step" in second.communicate(timeout=60)[0]
    lines = [line["epoch"] for line in metrics_of(run)]
    assert lines == list(range(1, len(lines) + 1))
    for path in run.glob("*.pth"):
        load(path)
    assert load(run / "last.pth")["epoch"] == lines[-1]
