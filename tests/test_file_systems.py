"""File systems that lack what others have; links and devices where a file is expected."""

import errno
import json
import os
import stat
import subprocess
import sys
import threading

import pytest
from conftest import ROOT, load, metrics_of

import test as test_script
import train as train_script
import utils.files

# In a process of its own: primitives that answer as such a file system does. {save} is a call of train.py.
PATCHED = """
import os, sys
sys.path.insert(0, {root!r})
{patch}
import train
from utils.exit_codes import exit_code_of
sys.exit(exit_code_of(train.main))
"""
NO_FOLDER_FLUSH = """
import errno, stat
real = os.fsync
def fsync(descriptor):
    if stat.S_ISDIR(os.fstat(descriptor).st_mode): raise OSError(errno.{error}, "refused")
    real(descriptor)
os.fsync = fsync
"""
NO_FLUSH = """
import errno
def fsync(descriptor): raise OSError(errno.{error}, "refused")
os.fsync = fsync
"""
NO_LINKS = """
import errno
def link(*arguments, **options): raise OSError(errno.EPERM, "refused")
os.link = link
"""
ONE_NUMBER = """
real_stat, real_lstat, real_fstat = os.stat, os.lstat, os.fstat
def one(found): return os.stat_result((found.st_mode, {number}, *found[2:]), found.__reduce__()[1][1])
os.stat = lambda *args, **options: one(real_stat(*args, **options))
os.lstat = lambda *args, **options: one(real_lstat(*args, **options))
os.fstat = lambda *args, **options: one(real_fstat(*args, **options))
"""


def train(patch, *arguments):
    script = PATCHED.format(root=str(ROOT), patch=patch)
    command = [sys.executable, "-c", script, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize("patch", [NO_FOLDER_FLUSH, NO_FLUSH], ids=["folder", "file"])
@pytest.mark.parametrize("error", ["EINVAL", "ENOTSUP", "ENOSYS"])
def test_a_file_system_that_cannot_flush_is_a_warning(project, patch, error):
    done = train(patch.format(error=error), "-c", project.write_config())
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("files there cannot be flushed") == (patch is NO_FLUSH)
    (run,) = project.run_dirs()
    assert load(run / "last.pth")["epoch"] == 2


def test_a_disk_that_fails_to_flush_is_an_error(project):
    done = train(NO_FLUSH.format(error="EIO"), "-c", project.write_config())
    assert done.returncode == 2 and "trainer.save_dir: " in done.stderr and project.run_dirs() == []


def test_without_hard_links_each_name_is_a_copy_and_one_line_says_so(project):
    done = train(NO_LINKS, "-c", project.write_config())
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = project.run_dirs()
    assert done.stdout.count("has no hard links. Each name of a checkpoint is a copy of ") == 1
    assert load(run / "model_best.pth")["epoch"] == load(run / "checkpoint-epoch2.pth")["epoch"] == 2
    assert not list(run.glob(".*.tmp"))


def test_a_copy_in_place_of_a_link_is_not_read_into_memory(tmp_path, monkeypatch):
    (tmp_path / "last.pth").write_bytes(b"\0" * (8 << 20))
    monkeypatch.setattr(utils.files.os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EPERM, "refused")))
    sizes = []
    copy = utils.files.shutil.copyfileobj
    monkeypatch.setattr(utils.files.shutil, "copyfileobj", lambda a, b, size: sizes.append(size) or copy(a, b, size))
    utils.files.link_atomically(tmp_path / "last.pth", tmp_path / "best.pth")
    assert sizes == [1 << 20] and (tmp_path / "best.pth").stat().st_size == 8 << 20


@pytest.mark.parametrize("number", [0, 7])
def test_files_that_all_have_one_number_are_different_files(project, number):
    project.train()
    (run,) = project.run_dirs()
    for path in run.glob("*.pth"):  # copies, as such file systems have no links
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    (run / "last.pth").write_bytes((run / "last.pth").read_bytes()[:-100])
    done = train(ONE_NUMBER.format(number=number), "-r", run, "--set", "trainer.epochs=3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Taking checkpoint-epoch2.pth instead" in done.stdout
    assert [line["epoch"] for line in metrics_of(run)] == [1, 2, 3]


# ---- links in a run directory ----


@pytest.mark.parametrize("name", ["train.log", "metrics.jsonl", ".lock", "environment.json", "config.json", "last.pth"])
def test_a_link_in_a_run_directory_is_replaced_and_not_followed(project, name):
    run = project.train()
    outside = project.folder / "outside"
    content = (run / name).read_bytes()
    outside.write_bytes(content)
    (run / name).unlink()
    (run / name).symlink_to(outside)
    project.resume(run, "--set", "trainer.epochs=3")
    assert outside.read_bytes() == content
    assert (run / name).is_file() and not (run / name).is_symlink()


def test_a_link_at_a_temporary_name_is_not_followed(project, monkeypatch):
    """The names cannot be guessed; and where one was, the file is not opened through it."""
    outside = project.folder / "outside"
    outside.write_text("mine")
    monkeypatch.setattr(utils.files, "_temporary", lambda path: path.with_name(".guessed.tmp"))
    (project.folder / ".guessed.tmp").symlink_to(outside)
    with pytest.raises(FileExistsError):
        utils.files.write_atomically(project.folder / "file", b"other")
    assert outside.read_text() == "mine"


@pytest.mark.parametrize("name", ["train.log", "metrics.jsonl"])
def test_a_pipe_in_a_run_directory_does_not_stop_a_run(project, name):
    run = project.train()
    (run / name).unlink()
    os.mkfifo(run / name)
    out = project.resume(run, "--set", "trainer.epochs=3")
    assert "not a regular file" in out and load(run / "last.pth")["epoch"] == 3


# ---- paths that a person names ----


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A run, and the table of its predictions."""
    folder = tmp_path_factory.mktemp("scored")
    config = json.loads((ROOT / "tests" / "config.json").read_text())
    config["trainer"] |= {"save_dir": str(folder), "epochs": 1, "tensorboard": False}
    (folder / "config.json").write_text(json.dumps(config | {"n_gpu": 0}))
    train_script.main(["-c", str(folder / "config.json")])
    (run,) = (path for path in folder.glob("*/*") if path.is_dir())
    test_script.main(["-r", str(run), "--predictions", str(folder / "table.csv")])
    return run, (folder / "table.csv").read_bytes()


def test_a_device_is_written_to_and_stays_a_device(scored, project, tmp_path):
    run, _ = scored
    null = tmp_path / "null"
    try:
        os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        null = "/dev/null"  # a user cannot replace it
    project.test("-r", run, "--predictions", null)
    assert stat.S_ISCHR(os.stat(null).st_mode)


def test_a_pipe_gets_the_table(scored, project, tmp_path):
    run, table = scored
    os.mkfifo(tmp_path / "pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    project.test("-r", run, "--predictions", tmp_path / "pipe")
    reader.join(30)
    assert read == [table] and stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)


@pytest.mark.parametrize("redirected", ["pipe", "file"])
def test_standard_output_gets_the_table_before_the_metrics(scored, tmp_path, redirected):
    run, table = scored
    command = [sys.executable, "test.py", "-r", str(run), "-d", "cpu", "--predictions", "/dev/stdout"]
    if redirected == "pipe":
        out = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=100).stdout
    else:
        with open(tmp_path / "out", "wb") as file:
            subprocess.run(command, cwd=ROOT, stdout=file, stderr=subprocess.DEVNULL, timeout=100)
        out = (tmp_path / "out").read_bytes()
    assert table in out
    assert "accuracy" in json.loads(out.splitlines()[-1])


def test_a_link_keeps_leading_to_the_file(scored, project, tmp_path):
    run, table = scored
    (tmp_path / "old.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to(tmp_path / "old.csv")
    project.test("-r", run, "--predictions", tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink() and (tmp_path / "old.csv").read_bytes() == table


def test_a_folder_is_refused(scored, project, tmp_path):
    message = project.refused("-r", scored[0], "--predictions", tmp_path, script=test_script)
    assert message == f"error: --predictions: {tmp_path} is a folder. Name a file in it.\n"
