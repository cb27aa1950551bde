"""What a person at a terminal does to a run: closes it, lets it go on without one, asks where it is, suspends it."""

import os
import pty
import resource
import select
import signal
import sys
import time
from contextlib import suppress

import pytest
from conftest import ROOT, assert_same, load, metrics_of, start_training, wait_for

pytestmark = pytest.mark.faults
STEPS = {"epochs": 1, "save_steps": 20, "early_stop": None, "monitor": "off", "valid_steps": 1}
ENDLESS = STEPS | {"epochs": 10_000}


@pytest.fixture
def start_on_terminal(project):
    """Start a run on a terminal of its own; its process, and the terminal, once the 20th step is saved."""
    started = []

    def start(is_hangup_ignored, trainer):
        config = project.write_config(trainer=trainer, data_loader={"batch_size": 4, "num_workers": 2})
        process, terminal = pty.fork()
        if process == 0:
            signal.signal(signal.SIGHUP, signal.SIG_IGN if is_hangup_ignored else signal.SIG_DFL)
            os.chdir(ROOT)
            os.execve(  # noqa: S606
                sys.executable,
                [sys.executable, "train.py", "-c", str(config)],
                os.environ | {"OMP_NUM_THREADS": "1"},
            )
        started.append(process)

        def has_saved():
            if select.select([terminal], [], [], 0)[0]:
                os.read(terminal, 1 << 16)
            return list(project.folder.rglob("checkpoint-step20.pth"))

        wait_for(has_saved, "a checkpoint")
        return process, terminal

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


@pytest.mark.parametrize(("is_hangup_ignored", "trainer", "code"), [(False, ENDLESS, 129), (True, STEPS, 0)])
def test_a_terminal_that_is_closed(project, start_on_terminal, is_hangup_ignored, trainer, code):
    """The run is saved; with nohup it continues to its end."""
    process, terminal = start_on_terminal(is_hangup_ignored, trainer)
    os.close(terminal)
    _, status = wait_for(lambda: (done := os.waitpid(process, os.WNOHANG))[0] and done, "the end of the run")
    assert os.waitstatus_to_exitcode(status) == code
    (run,) = project.run_dirs()
    log = (run / "train.log").read_text()
    last = load(run / "last.pth")
    assert f"Saved after step {last['step']}. " in log if code else last["epoch"] == 1 and metrics_of(run)


def test_a_quit_shows_where_each_thread_is(project):
    config = project.write_config(trainer=ENDLESS, data_loader={"batch_size": 2, "num_workers": 0})
    process = start_training("-c", config)
    (saved,) = wait_for(lambda: list(project.folder.rglob("checkpoint-step20.pth")), "a checkpoint")
    resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))
    process.send_signal(signal.SIGQUIT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGQUIT  # 131 in a shell
    assert "most recent call first" in out and "train.py" in out
    assert load(saved)["step"] == 20


def test_a_run_that_is_suspended_goes_on_to_the_same_end(project):
    sections = {"trainer": STEPS, "data_loader": {"batch_size": 4, "num_workers": 1, "timeout": 1}}
    process = start_training("-c", project.write_config(**sections))
    wait_for(lambda: list(project.folder.rglob("checkpoint-step20.pth")), "a checkpoint")
    os.killpg(process.pid, signal.SIGSTOP)
    wait_for(lambda: state_of_process(process.pid) == "T", "the stop")
    time.sleep(2)
    os.killpg(process.pid, signal.SIGCONT)
    out, _ = process.communicate(timeout=100)
    assert process.returncode == 0, out
    (suspended,) = project.run_dirs()
    whole = project.train(**sections)
    assert_same(load(whole / "last.pth"), load(suspended / "last.pth"))
    assert metrics_of(whole) == metrics_of(suspended)


def state_of_process(number):
    with open(f"/proc/{number}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def test_a_signal_while_python_starts_ends_it_as_any_program(project):
    process = start_training("-c", project.write_config())
    process.terminate()
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out, project.run_dirs()) == (-signal.SIGTERM, "", [])
