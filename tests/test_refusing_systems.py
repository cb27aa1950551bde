"""A system that starts no more threads, or whose disk fails: what is lost is small, and the run goes to its end."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT, load

PATCHED = """
import sys
sys.path.insert(0, {root!r})
{patch}
import train
from utils.exit_codes import exit_code_of
sys.exit(exit_code_of(train.main))
"""
NO_THREAD = """
import threading
def start(self): raise RuntimeError("can't start new thread")
threading.Thread.start = start
"""
# The file takes what is written until the run ends; then each write, flush and close fails.
FAILING_FILE = """
import builtins, errno, io
real = builtins.open
class Failing(io.FileIO):
    def write(self, content): raise OSError(errno.EIO, "Input/output error")
    def close(self):
        if not self.closed:
            super().close()
            raise OSError(errno.EIO, "Input/output error")
def failing_open(path, mode="r", *arguments, **options):
    if not str(path).endswith({name!r}) or "r" in mode:
        return real(path, mode, *arguments, **options)
    raw = Failing(path, mode.replace("b", "").replace("t", ""), opener=options.get("opener"))
    return raw if "b" in mode else io.TextIOWrapper(raw, write_through=True)
builtins.open = failing_open
"""
FAILING_EVENTS = """
import errno
from tensorboard.summary.writer.event_file_writer import EventFileWriter
real_flush, calls = EventFileWriter.flush, []
def flush(self):
    calls.append(1)
    if len(calls) > 2: raise OSError(errno.EIO, "Input/output error")  # not at the start
    real_flush(self)
def close(self): raise OSError(errno.EIO, "Input/output error")
EventFileWriter.flush, EventFileWriter.close = flush, close
"""


def train(project, patch):
    config = project.write_config(trainer={"tensorboard": True, "log_steps": 1})
    command = [sys.executable, "-c", PATCHED.format(root=str(ROOT), patch=patch), "-c", str(config)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    (run,) = project.run_dirs()
    assert load(run / "last.pth")["epoch"] == 2
    return done.stdout + done.stderr, run


def test_without_threads_a_run_goes_without_tensorboard(project):
    out, run = train(project, NO_THREAD)
    assert "No TensorBoard events will be written: can't start new thread" in out
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        (FAILING_FILE.format(name="metrics.jsonl"), "metrics.jsonl: Input/output error. The line is kept"),
        (FAILING_FILE.format(name="train.log"), ""),
        (FAILING_EVENTS, "TensorBoardWriter cannot write any more"),
    ],
    ids=["metrics", "log", "events"],
)
def test_an_error_of_the_disk_in_a_side_file_does_not_end_a_run(project, patch, message):
    out, _ = train(project, patch)
    assert message in out
