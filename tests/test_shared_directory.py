"""Two processes and one run directory: one of them trains there, and the other stops before it writes."""
# ruff: noqa: F811 - pytest finds a fixture by the name of a parameter

import errno
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from conftest import ROOT, metrics_of, start_training, wait_for
from slow_runs import assert_second_takes_over, first_run, runner  # noqa: F401

from utils.checkpoints.lock import LostRun, RunLock

NO_LOCKS = """
import fcntl, os
def refuse(*arguments): raise OSError(37, os.strerror(37))
fcntl.lockf = refuse
"""


def take_over(runner, first, run):
    """Start a second process while the first one is suspended, in the middle of an epoch."""
    second = runner.start("-r", run)
    wait_for(lambda: second.poll() or f'"process": {second.pid}' in (run / ".lock").read_text(), "a second owner")
    first.send_signal(signal.SIGCONT)
    return second


def test_a_deleted_lock_file_lets_a_second_process_take_over(project, runner):
    first, run = first_run(project, runner)
    first.send_signal(signal.SIGSTOP)
    (run / ".lock").unlink()
    (run / ".lock").touch()
    second = take_over(runner, first, run)
    assert_second_takes_over(first, second, run)


def test_a_directory_that_is_deleted_and_made_again_has_one_owner(project, runner):
    first, run = first_run(project, runner)
    first.send_signal(signal.SIGSTOP)
    shutil.copytree(run, project.folder / "copy")
    shutil.rmtree(run)
    (project.folder / "copy").rename(run)
    second = take_over(runner, first, run)
    assert_second_takes_over(first, second, run)


def test_without_locks_the_newest_start_wins_and_the_other_stops(project, runner):
    runner.patch = NO_LOCKS
    first, run = first_run(project, runner)
    second = runner.start("-r", run)
    assert_second_takes_over(first, second, run)
    assert "this file system has no locks" in (run / "train.log").read_text()


def test_a_deleted_lock_file_is_made_again(project, runner):
    first, run = first_run(project, runner)
    before = json.loads((run / ".lock").read_text())
    (run / ".lock").unlink()
    wait_for(lambda: (run / ".lock").exists() and (run / ".lock").read_text(), "a lock file")
    assert json.loads((run / ".lock").read_text())["process"] == before["process"] == first.pid
    assert "another process is training there" in project.refused("-r", run)


def test_a_tool_beside_a_run_without_locks_does_not_stop_it(project, runner):
    runner.patch = NO_LOCKS
    first, run = first_run(project, runner)
    tool = runner.start("-r", run, "--replay")
    assert "no failure" in tool.communicate(timeout=60)[0] and tool.returncode == 2
    epochs = len(metrics_of(run))
    wait_for(lambda: first.poll() or len(metrics_of(run)) > epochs + 1, "two more epochs")
    assert first.poll() is None


def test_a_touched_lock_file_changes_nothing(tmp_path):
    with RunLock() as lock:
        lock.take(tmp_path)
        lock.claim()
        os.utime(tmp_path / ".lock", (1, 1))
        lock.check()
        content = (tmp_path / ".lock").read_bytes()
        lock.check()
        assert (tmp_path / ".lock").read_bytes() == content
        (tmp_path / ".lock").write_text(json.dumps({"id": "other", "host": "far", "process": 1, "since": "now"}))
        with pytest.raises(LostRun, match="process 1 on far continues this run since now"):
            lock.check()


def test_a_directory_that_is_lost_stays_lost(tmp_path):
    """Also where the other process has not written its name yet: what follows a failed check must not save."""
    hold = "import sys, time; sys.path.insert(0, sys.argv[1]); from pathlib import Path; "
    hold += "from utils.checkpoints.lock import RunLock; lock = RunLock(); "
    hold += "lock.take(Path(sys.argv[2])); print('held', flush=True); time.sleep(100)"
    with RunLock() as lock:
        lock.take(tmp_path)
        lock.claim()
        (tmp_path / ".lock").unlink()
        command = [sys.executable, "-c", hold, str(ROOT), str(tmp_path)]
        other = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert other.stdout.readline() == "held\n"
            for _ in range(2):
                with pytest.raises(LostRun, match="another process is training there"):
                    lock.check()
        finally:
            other.kill()
            other.communicate()


def test_a_full_disk_does_not_end_the_lock(tmp_path, monkeypatch):
    with RunLock() as lock:
        lock.take(tmp_path)
        lock.claim()
        (tmp_path / ".lock").unlink()

        def refuse(*arguments):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", refuse)
            lock.check()
        lock.check()
        assert json.loads((tmp_path / ".lock").read_text())["process"] == os.getpid()


def test_eight_starts_at_once_make_one_run(project):
    """With `-r auto`, the others are refused while the run is alive, and continue or confirm it afterwards."""
    config = project.write_config(trainer={"epochs": 300}, data_loader={"batch_size": 64})
    starts = [start_training("-c", config, "-r", "auto") for _ in range(8)]
    try:
        wait_for(lambda: sum(start.poll() is not None for start in starts) >= 7, "seven that end", 120)
        (alive,) = [start for start in starts if start.poll() is None]
        (run,) = project.run_dirs()
        alive.send_signal(signal.SIGTERM)
        outputs = [start.communicate(timeout=60)[0] for start in starts]
        assert sorted(start.returncode for start in starts) == [2] * 7 + [143]
        assert sum("another process is training there" in output for output in outputs) == 7
    finally:
        for start in starts:
            start.kill()
            start.communicate()
    lines = [line["epoch"] for line in metrics_of(run)]
    assert lines == list(range(1, len(lines) + 1))
