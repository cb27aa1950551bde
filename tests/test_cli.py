"""The commands as a user meets them: processes, working directories, terminals, exit codes."""

import json
import os
import re
import struct
import subprocess
import sys

import pytest
from conftest import ROOT, assert_same, load, metrics_of, run_python

import test as test_script
from utils.checkpoints.run_dir import create_run_dir


@pytest.mark.parametrize("script", ["train.py", "test.py"])
def test_help_imports_nothing_heavy(script):
    done = run_python("-X", "importtime", ROOT / script, "--help")
    assert done.returncode == 0 and "usage:" in done.stdout
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert not {"torch", "torchvision", "numpy", "tensorboard"} & imported


def test_from_another_working_directory_the_result_is_the_same(project):
    """Relative paths in a config start at the project; those of the command line where the user stands."""
    here = project.train()
    elsewhere = project.folder / "else" / "where"
    elsewhere.mkdir(parents=True)
    config = os.path.relpath(project.write_config(data_loader={"batch_size": 64, "num_workers": 1}), elsewhere)
    done = run_python(ROOT / "train.py", "-c", config, cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    _, there = project.run_dirs()
    assert metrics_of(here) == metrics_of(there)
    assert_same(load(here / "last.pth")["model"], load(there / "last.pth")["model"])
    done = run_python(ROOT / "test.py", "-r", os.path.relpath(there, elsewhere), cwd=elsewhere)
    assert json.loads(done.stdout.splitlines()[-1]) == project.test("-r", here)[0]
    assert list(elsewhere.iterdir()) == []


def test_a_relative_save_dir_stands_in_the_project():
    import utils.paths

    assert utils.paths.project_path("saved/") == ROOT / "saved"


@pytest.mark.parametrize(
    "arguments",
    [[], ["-c"], ["--config", "config.json", "--unknown"], ["-c", "config.json", "--set", "trainer.epochs"]],
)
def test_a_wrong_command_line_ends_with_code_2_and_no_traceback(project, arguments):
    assert "error: " in project.refused(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "3"], "unknown argument --epochs. Write --set trainer.epochs=3"),
        (["--batch-size=32"], "unknown argument --batch-size. Write --set data_loader.batch_size=32"),
        (["--epoch", "--check"], "unknown argument --epoch. Write --set trainer.epochs=VALUE"),
        (["-lr", "0.1"], "unknown argument -lr. Write --lr 0.1"),
        (["--learning-rate", "0.1"], "unknown argument --learning-rate. Write --set optimizer.args.lr=0.1"),
        (["--devise", "cpu"], "unknown argument --devise. Write --device cpu"),
        (["--chek"], "unknown argument --chek. Write --check"),
        (["my.json"], "unknown argument my.json. Write -c my.json"),
        (["my.yaml"], "unknown argument my.yaml. Write -c my.yaml"),
        (["saved/run"], "unknown argument saved/run. Write -r saved/run"),
        (["trainer.epochs=3"], "unknown argument trainer.epochs=3. Write --set trainer.epochs=3"),
        (["--xyzzy"], "unknown argument --xyzzy. --help lists those that are known"),
    ],
)
def test_what_was_meant_by_an_unknown_argument(project, arguments, message):
    assert project.refused(*arguments).endswith(f": error: {message}\n")


def test_scoring_needs_a_run_and_a_split_that_exists(project):
    assert "required: -r/--resume" in project.refused(script=test_script)
    assert "invalid choice: 'train'" in project.refused("-r", project.train(), "--split", "train", script=test_script)


def test_on_a_terminal_there_is_a_bar_with_loss_rate_speed_and_time_left(project):
    config = project.write_config(trainer={"epochs": 1, "log_steps": 1})
    pty, termios, fcntl = map(pytest.importorskip, ("pty", "termios", "fcntl"))  # Windows has none of them
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    command = [sys.executable, "train.py", "-c", str(config), "--set", "data_loader.batch_size=4"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=end, env=environment) as process:
        os.close(end)
        shown = b""
        try:
            while chunk := os.read(terminal, 65536):
                shown += chunk
        except OSError:  # Linux's way to say that the other end is closed
            pass
    os.close(terminal)
    assert process.returncode == 0
    text = shown.decode()
    assert re.search(
        r"epoch 1/1: +\d+%\|.*\| \d+/315 \[00:\d\d<00:\d\d, .*loss [\d.]+  lr 0\.001  [\d,]+ items/s", text
    )


def test_a_screen_that_is_gone_does_not_end_the_run(project):
    """/dev/full refuses every write, as a closed terminal does; the log file goes on."""
    with open("/dev/full", "w") as full:
        command = [sys.executable, "train.py", "-c", str(project.write_config())]
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=100)
    assert done.returncode == 0 and "Traceback" not in done.stderr and "ignored" not in done.stderr, done.stderr
    (run,) = project.run_dirs()
    assert load(run / "last.pth")["epoch"] == 2 and "Finished: epoch 2 of 2" in (run / "train.log").read_text()


@pytest.mark.parametrize("arguments", [["--print-config"], ["--list", "loss"]])
def test_output_that_cannot_be_written_is_one_message(project, arguments):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "train.py", "-c", str(project.write_config()), *arguments]
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=100)
    assert done.returncode == 1
    assert done.stderr == "error: stdout: cannot be written: No space left on device. Some of the output is lost.\n"


def test_runs_of_the_same_second_have_directories_of_their_own(tmp_path, monkeypatch):
    import utils.checkpoints.run_dir as module

    class Stopped(module.datetime):
        @classmethod
        def now(cls):
            return cls(2026, 1, 2, 3, 4, 5)

    monkeypatch.setattr(module, "datetime", Stopped)
    made = [create_run_dir(str(tmp_path), "name").name for _ in range(3)]
    assert made == ["20260102-030405", "20260102-030405_2", "20260102-030405_3"]


def test_processes_that_start_at_once_have_directories_of_their_own(tmp_path):
    script = "import sys; sys.path.insert(0, sys.argv[1]); from utils.checkpoints.run_dir import create_run_dir; "
    script += "print(create_run_dir(sys.argv[2], 'name'))"
    command = [sys.executable, "-c", script, str(ROOT), str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    made = {process.communicate()[0] for process in processes}
    assert len(made) == 3


def test_a_save_dir_that_is_a_file_is_one_message(project):
    (project.folder / "file").write_text("")
    message = project.refused_config(trainer={"save_dir": str(project.folder / "file")})
    assert message.startswith("error: trainer.save_dir: cannot make a run directory in ")


def test_the_environment_of_each_start_is_recorded(project):
    run = project.train()
    project.resume(run, "--set", "trainer.epochs=3")
    starts = json.loads((run / "environment.json").read_text())
    assert len(starts) == 2
    assert set(starts[0]) == {
        "time", "argv", "host", "process", "job", "git_commit", "git_dirty", "versions", "platform",
        "cpu_threads", "gpus", "end",
    }  # fmt: skip
    assert starts[0]["versions"]["torch"].startswith("2.")


def test_scoring_writes_nothing(project):
    run = project.train()
    before = {path: path.stat().st_mtime_ns for path in project.folder.rglob("*")}
    project.test("-r", run)
    assert before == {path: path.stat().st_mtime_ns for path in project.folder.rglob("*")}


def test_scoring_takes_the_best_and_a_carried_checkpoint_has_its_config(project):
    run = project.train(trainer={"epochs": 3})
    carried = project.folder / "carried.pth"
    carried.write_bytes((run / "model_best.pth").read_bytes())
    assert project.test("-r", run)[0] == project.test("-r", carried)[0]
    assert "model_best.pth, epoch " in project.test("-r", run)[1]
