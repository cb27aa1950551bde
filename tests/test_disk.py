"""A disk that is full, read-only, or whose folder is gone: what was saved stays good, and the run goes on if it can."""

import errno
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, load, metrics_of

import train as train_script
import trainer.trainer
import utils.files
from logger.writers import JSONLWriter

# A disk of its own, in a name space of its own, which ends with the command. $1: where, $2: its size, $3: the config.
ON_A_DISK = """
mount -t tmpfs -o size=$2 disk $1 && mkdir $1/saved && {before}
{python} train.py -c $3 {arguments}
code=$?; cp -r $1/saved $1.after; exit $code
"""


def can_mount():
    return shutil.which("unshare") and subprocess.run(["unshare", "-Urm", "true"], capture_output=True).returncode == 0


needs_mount = pytest.mark.skipif(not can_mount(), reason="this system lets no user mount a disk of their own")


@pytest.fixture
def train_on_a_disk(project):
    """Train on a disk of a size; exit code, output, and the run directories as they were in the end."""

    def train(size, before="true", arguments="", **trainer):
        disk = project.folder / "disk"
        disk.mkdir()
        config = project.write_config(trainer=trainer | {"save_dir": str(disk / "saved")})
        script = ON_A_DISK.format(before=before.format(disk=disk), python=sys.executable, arguments=arguments)
        command = ["unshare", "-Urm", "sh", "-c", script, "sh", str(disk), size, str(config)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
        return done, sorted((project.folder / "disk.after").glob("*/*"))

    return train


@needs_mount
def test_a_full_disk_does_not_end_the_run_and_the_exit_code_tells(train_on_a_disk):
    done, (run,) = train_on_a_disk("240k", epochs=9, keep_last=None, tensorboard=True)
    assert done.returncode == 1 and done.stderr.startswith("error: The last epoch is not saved in "), (
        done.stdout + done.stderr
    )
    (message, *others) = [line for line in done.stdout.splitlines() if "could not be saved" in line]
    assert "No space left on device: more than " in message and "KiB needed" in message
    assert f"free on the disk at {run.parent.parent.parent}".replace(".after", "/saved").rsplit("/", 1)[0] in message
    assert "The checkpoints before it are good; the next one is tried as ever." in message and others
    assert "Traceback" not in done.stdout
    saved = load(run / "last.pth")
    assert 0 < saved["epoch"] < 9
    for path in run.glob("*.pth"):
        load(path)
    assert not list(run.glob(".*.tmp"))
    assert saved["monitor"]["best_values"]["epoch"] == load(run / "model_best.pth")["epoch"]


@needs_mount
def test_a_full_disk_ends_the_run_where_that_is_asked_for(train_on_a_disk):
    done, (run,) = train_on_a_disk("240k", epochs=9, keep_last=None, on_save_error="stop")
    assert done.returncode == 1 and "No space left on device: more than " in done.stderr
    assert "could not be saved" in done.stderr and "could not be saved" not in done.stdout
    assert 0 < load(run / "last.pth")["epoch"] < 9


@needs_mount
@pytest.mark.parametrize(
    ("size", "before", "reason"),
    [
        ("16k", "true", "No space left on device"),
        ("1m", "mount -o remount,ro {disk}", "Read-only file system"),
    ],
)
def test_a_disk_that_takes_nothing_is_found_before_the_first_step(train_on_a_disk, size, before, reason):
    done, runs = train_on_a_disk(size, before)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert re.match(r"error: \S+config.json:\d+: trainer.save_dir: ", done.stderr) and reason in done.stderr
    assert runs == []


@needs_mount
def test_no_shared_memory_for_workers_is_one_message(train_on_a_disk):
    done, _ = train_on_a_disk(
        "9m", "mount -t tmpfs -o size=64k shm /dev/shm", "--set data_loader.num_workers=1 data_loader.batch_size=256"
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr  # nothing has begun
    assert re.search("No space left on device|unable to allocate shared memory", done.stderr)  # as torch's version says
    assert "docker: --shm-size" in done.stderr


class Obstructed(trainer.trainer.Trainer):
    """Something happens at the end of its second epoch, and is over at the end of the third."""

    def on_epoch_end(self, values):
        if self.epoch == 2:
            self.obstruct()
        if self.epoch == 3:
            self.clear()

    def clear(self):
        pass


def test_the_next_epoch_is_saved_when_the_disk_takes_it_again(project, write_into):
    """A limit on the size of files stands in for a disk that is full for a while."""

    class OnFullDisk(Obstructed):
        def obstruct(self):
            self.limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (8000, self.limits[1]))

        def clear(self):
            resource.setrlimit(resource.RLIMIT_FSIZE, self.limits)

    write_into(trainer.trainer, OnFullDisk)
    config = project.write_config(trainer={"type": "OnFullDisk", "epochs": 3})
    code, out, err = project.command(train_script, "-c", config)
    assert code == 0, out + err
    (run,) = project.run_dirs()
    assert "Epoch 2 could not be saved" in out and "File too large: more than " in out
    assert [line["epoch"] for line in metrics_of(run)] == [1, 2, 3]
    assert (load(run / "last.pth")["epoch"], load(run / "model_best.pth")["epoch"]) == (3, 3)
    assert not (run / "checkpoint-epoch2.pth").exists()


def test_the_next_epoch_is_saved_when_a_lost_drive_is_back(project, write_into, monkeypatch):
    """While a drive is lost, every call on it fails; test_mounts has a real one."""

    class OnLostDrive(Obstructed):
        def obstruct(self):
            def refuse(call):
                def refused(path, *arguments, **options):
                    if str(path).startswith(str(project.folder / "saved")):
                        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
                    return call(path, *arguments, **options)

                return refused

            for name in ("stat", "lstat", "open", "unlink"):
                monkeypatch.setattr(os, name, refuse(getattr(os, name)))
            monkeypatch.setattr(utils.files, "open", refuse(open), raising=False)

        def clear(self):
            monkeypatch.undo()

    write_into(trainer.trainer, OnLostDrive)
    with monkeypatch.context() as monkeypatch:
        config = project.write_config(trainer={"type": "OnLostDrive", "epochs": 3})
        code, out, err = project.command(train_script, "-c", config)
    assert code == 0, out + err
    assert "Epoch 2 could not be saved" in out and "Transport endpoint is not connected: " in out
    (run,) = project.run_dirs()
    assert [line["epoch"] for line in metrics_of(run)] == [1, 2, 3]
    assert load(run / "last.pth")["epoch"] == 3


@pytest.mark.parametrize("tensorboard", [False, True])
def test_a_run_directory_that_is_deleted_is_made_again(project, write_into, tensorboard):
    class Deleting(Obstructed):
        def obstruct(self):
            (run,) = project.run_dirs()
            shutil.rmtree(run.rename(project.folder / "deleted"))

    write_into(trainer.trainer, Deleting)
    settings = {"type": "Deleting", "epochs": 4, "tensorboard": tensorboard, "log_steps": 1}
    code, out, err = project.command(train_script, "-c", project.write_config(trainer=settings))
    assert code == 0, out + err
    (run,) = project.run_dirs()
    assert f"{run} was deleted, and is made again." in out and "Traceback" not in out + err
    assert [line["epoch"] for line in metrics_of(run)] == [2, 3, 4]
    assert load(run / "last.pth")["epoch"] == 4
    assert json.loads((run / "config.json").read_text())["name"] == "digits_lenet"
    project.resume(run, "--set", "trainer.epochs=5")


def test_a_checkpoint_that_cannot_be_deleted_is_a_warning(project, monkeypatch):
    unlink = Path.unlink

    def refuse(path, **options):
        if path.name == "checkpoint-epoch1.pth":
            raise PermissionError(errno.EPERM, "Operation not permitted")
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", refuse)  # what the system refuses to others, it allows to root
    code, out, _ = project.command(train_script, "-c", project.write_config(trainer={"epochs": 3, "keep_last": 1}))
    (run,) = project.run_dirs()
    assert code == 0 and f"{run}/checkpoint-epoch1.pth could not be deleted: Operation not permitted." in out
    assert sorted(path.name for path in run.glob("checkpoint-*")) == ["checkpoint-epoch1.pth", "checkpoint-epoch3.pth"]


def test_a_line_of_metrics_that_the_disk_refuses_is_written_with_the_next(tmp_path):
    writer = JSONLWriter(tmp_path / "metrics.jsonl")
    writer.epoch({"epoch": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))  # in the middle of the second line
    try:
        writer.epoch({"epoch": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert metrics_of(tmp_path) == [{"epoch": 1}]
    writer.epoch({"epoch": 3})
    assert metrics_of(tmp_path) == [{"epoch": 1}, {"epoch": 2}, {"epoch": 3}]
