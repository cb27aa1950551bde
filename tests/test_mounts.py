"""Runs on file systems that are really mounted: one through FUSE, and disks in a file (loop devices)."""
# ruff: noqa: F811 - pytest finds a fixture by the name of a parameter

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from conftest import ROOT, assert_same, load, metrics_of, wait_for
from slow_runs import assert_second_takes_over, first_run, runner  # noqa: F401

import train as train_script

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]
EPOCHS = 3
MESSAGES = ["this file system has no locks.", "files there cannot be flushed.", "has no hard links."]


def call(*command):
    subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True)


def unmount(folder):
    subprocess.run(["umount", "-l", str(folder)], capture_output=True)


class FuseDrive:
    """A mounted folder; `is_lost` once its server has ended."""

    def __init__(self, folder):
        self.files, self.folder = folder / "files", folder / "saved"
        self.log = folder / "log"
        self.files.mkdir()
        self.folder.mkdir()

    def mount(self):
        command = [sys.executable, str(ROOT / "tests" / "fuse_drive.py"), str(self.files), str(self.folder)]
        with open(self.log, "w") as log:
            self.server = subprocess.Popen(command, start_new_session=True, stdout=log, stderr=log)
        wait_for(lambda: self.folder.is_mount() or self.server.poll() is not None, "a mount", 20)
        return self.server.poll() is None

    def lose(self):
        self.server.kill()
        self.server.wait()


@pytest.fixture
def drive(tmp_path):
    drive = FuseDrive(tmp_path)
    try:
        if not drive.mount():
            pytest.skip(f"no FUSE here: {drive.log.read_text().strip().splitlines()[-1]}")
        yield drive
    finally:
        unmount(drive.folder)
        drive.lose()


@contextmanager
def small_disk(folder, megabytes, is_sparse_on=None):
    """An ext4 file system in a file; with `is_sparse_on`, on a disk of that many megabytes, smaller than it claims."""
    host, disk = folder / "host", folder / "saved"
    host.mkdir()
    disk.mkdir()
    try:
        try:
            if is_sparse_on:
                call("mount", "-t", "tmpfs", "-o", f"size={is_sparse_on}m", "host", host)
            call("truncate", "-s", f"{megabytes}M", host / "disk")
            call("mkfs.ext4", "-q", "-m", "0", host / "disk")
            call("mount", "-o", "loop,errors=remount-ro", host / "disk", disk)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no loop devices here: {error}")
        yield disk
    finally:
        unmount(disk)
        unmount(host)


def test_a_run_on_a_drive_is_the_run_on_a_disk(project, drive):
    """Stopped and resumed on the drive; then scored there."""
    config = project.write_config(trainer={"epochs": EPOCHS, "save_dir": str(project.folder / "disk")})
    assert project.command(train_script, "-c", config)[0] == 0
    (whole,) = (project.folder / "disk").glob("*/*")
    code, out, err = project.command(train_script, "-c", project.write_config())
    assert code == 0 and [out.count(message) for message in MESSAGES] == [1, 1, 1], out + err
    (run,) = project.run_dirs()
    project.resume(run, "--set", f"trainer.epochs={EPOCHS}")
    assert metrics_of(run) == metrics_of(whole)
    for name in ("last.pth", "model_best.pth"):
        first, second = load(whole / name), load(run / name)
        assert_same(first | {"config": None}, second | {"config": None})
    assert project.test("-r", run)[0] == project.test("-r", whole)[0]
    assert not list(drive.files.rglob("*.tmp"))


def test_on_a_drive_without_locks_the_newest_start_wins(project, drive, runner):
    first, run = first_run(project, runner)
    second = runner.start("-r", run)
    assert_second_takes_over(first, second, run)


def test_a_drive_that_is_lost_ends_no_run_and_damages_no_file(project, drive, runner):
    """The server of the drive is killed. The run is asked to stop; the drive comes back, and the run is continued."""
    first, run = first_run(project, runner)
    drive.lose()
    lines = iter(first.stdout.readline, "")
    next(line for line in lines if "could not be saved" in line and "not connected" in line)
    first.send_signal(signal.SIGTERM)
    out, _ = first.communicate(timeout=60)
    assert first.returncode == 1 and "Traceback" not in out and "which is not saved: SIGTERM" in out
    unmount(drive.folder)
    assert drive.mount()
    assert_goes_on(runner, run)


def assert_goes_on(runner, run):
    """The run continues where it was last saved; each epoch is in the metrics once; all its checkpoints are good."""
    epochs = load(run / "last.pth")["epoch"] + 2
    process = runner.start("-r", run, "--set", f"trainer.epochs={epochs}")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out
    assert [line["epoch"] for line in metrics_of(run)] == list(range(1, epochs + 1))
    for path in run.glob("*.pth"):
        load(path)


def fill(disk):
    """Fill what is left of a disk with a file; return its path."""
    path = disk / "filler"
    with open(path, "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"\1" * 4096)
    return path


def break_file_system(disk):
    """An error that ext4 finds in itself: it takes no more writes, and pages that were not flushed are lost."""
    number = os.stat(disk).st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve().name
    Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("an error of the file system")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("full", "No space left"),
        ("broken", "Read-only file system"),
        ("smaller than it claims", "No space left|Input/output error|Read-only file system"),
    ],
)
def test_a_disk_that_fails_during_a_run_keeps_what_was_saved(project, tmp_path, runner, fault, reason):
    """A disk that is smaller than it claims takes every write, and fails when the written pages are flushed."""
    is_sparse = fault == "smaller than it claims"
    with small_disk(tmp_path, 64 if is_sparse else 16, is_sparse_on=16 if is_sparse else None) as disk:
        first, run = first_run(project, runner)
        filler = None
        if fault == "broken":
            break_file_system(disk)
        else:
            filler = fill(tmp_path / "host" if is_sparse else disk)
        line = next(line for line in iter(first.stdout.readline, "") if "could not be saved" in line)
        assert re.search(reason, line), line
        first.send_signal(signal.SIGTERM)
        out, _ = first.communicate(timeout=60)
        assert first.returncode == 1 and "Traceback" not in out and "which is not saved: SIGTERM" in out
        if filler:
            filler.unlink()
        call("umount", disk)
        call("mount", "-o", "loop", tmp_path / "host" / "disk", disk)
        assert_goes_on(runner, run)
