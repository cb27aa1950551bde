"""Real signals to real processes: one is followed after the step, two at once, and none is lost."""

import json
import os
import signal

import pytest
from conftest import assert_same, load, start_training, wait_for

import train as train_script
import trainer.trainer

pytestmark = pytest.mark.faults
ENDLESS = {"epochs": 10_000, "save_steps": 20, "early_stop": None, "monitor": "off"}


@pytest.fixture
def endless(project):
    """Start a run of tiny batches; the process, once it has saved its 20th step."""
    processes = []

    def start(workers=0, context=None, **options):
        loader = {"batch_size": 2, "num_workers": workers, "multiprocessing_context": context}
        loader["persistent_workers"] = False  # so that there are no others from the validation
        process = start_training("-c", project.write_config(trainer=ENDLESS, data_loader=loader), **options)
        processes.append(process)
        wait_for(lambda: list(project.folder.rglob("checkpoint-step20.pth")) or process.poll(), "a checkpoint")
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.communicate()


def children_of(process):
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
        return [int(number) for number in file.read().split()]


def is_alive(number):
    try:
        with open(f"/proc/{number}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("name", "code", "workers"),
    [
        ("SIGTERM", 143, 2),
        ("SIGINT", 130, 2),
        ("SIGUSR1", 138, 0),
        ("SIGXCPU", 152, 0),
        ("SIGUSR2", 140, 0),
    ],
)
def test_a_signal_to_the_whole_group_ends_a_run_saved(project, endless, name, code, workers):
    process = endless(workers)
    assert len(children_of(process)) == workers
    workers = children_of(process)
    os.killpg(process.pid, getattr(signal, name))
    out, _ = process.communicate(timeout=60)
    assert process.returncode == code, out
    (run,) = project.run_dirs()
    step = load(run / "last.pth")["step"]
    assert step >= 20 and f"Saved after step {step}. To go on: python train.py -r {run}" in out
    assert "Traceback" not in out and "killed by signal" not in out
    assert not any(map(is_alive, workers))
    assert f"Saved after step {step}" in (run / "train.log").read_text()


def test_workers_that_inherit_no_handlers_survive_a_signal_to_the_group(project, endless):
    process = endless(1, "forkserver")
    os.killpg(process.pid, signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 143, out
    assert load(project.run_dirs()[0] / "last.pth")["step"] >= 20


def test_workers_end_when_their_run_is_killed(endless):
    process = endless(2)
    workers = children_of(process)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(map(is_alive, workers)), "the end of the workers", seconds=30)


class Part:
    """Sends signals when its state is asked for after the tenth step: while the checkpoint is made."""

    def __init__(self, owner):
        self.owner = owner

    def state_dict(self):
        if self.owner.step == 10 and self.owner.while_saving:
            self.owner.send()
        return {}

    def load_state_dict(self, state):
        pass


class Signalling(trainer.trainer.Trainer):
    """Sends its process signals in its tenth step, or while that is saved."""

    to_send = (signal.SIGINT, signal.SIGINT)
    while_saving = False

    def train_step(self, batch):
        result = super().train_step(batch)
        if self.step == 9 and not self.while_saving:
            self.send()
        return result

    def stateful(self):
        return super().stateful() | {"part": Part(self)}

    def send(self):
        for number in self.to_send:
            os.kill(os.getpid(), number)


@pytest.mark.parametrize("while_saving", [False, True])
def test_two_interrupts_stop_at_once_and_leave_the_checkpoint_before(project, write_into, monkeypatch, while_saving):
    write_into(trainer.trainer, Signalling)
    monkeypatch.setattr(Signalling, "while_saving", while_saving)
    config = project.write_config(trainer={"type": "Signalling", "save_steps": 5})
    code, _, err = project.command(train_script, "-c", config)
    assert code == 130 and "Stopped at once." in err
    (run,) = project.run_dirs()
    assert load(run / "last.pth")["step"] == 5
    assert not list(run.glob(".*.tmp"))


@pytest.mark.parametrize("numbers", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGXCPU, signal.SIGTERM)])
def test_a_signal_while_saving_waits_for_the_end_of_the_save(project, write_into, monkeypatch, numbers):
    write_into(trainer.trainer, Signalling)
    monkeypatch.setattr(Signalling, "while_saving", True)
    monkeypatch.setattr(Signalling, "to_send", numbers)
    code, _, _ = project.command(
        train_script, "-c", project.write_config(trainer={"type": "Signalling", "save_steps": 5})
    )
    assert code == 128 + numbers[0]
    (run,) = project.run_dirs()
    assert_same(load(run / "checkpoint-step10.pth"), load(run / "last.pth"))


@pytest.fixture
def slurm(tmp_path):
    """A command `scontrol` that notes what it is asked, and the environment of a job."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n[ "$2" != 13 ] || exit 1\n')
    (folder / "scontrol").chmod(0o755)
    return lambda job: {"PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": job}


def test_the_warning_counts_where_the_end_follows_at_once(project, endless, slurm):
    process = endless(env=slurm("4711"))
    process.send_signal(signal.SIGUSR1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert (project.folder / "asked").read_text() == "requeue 4711\n"


def test_slurms_warning_saves_and_has_the_job_start_again(project, endless, slurm):
    process = endless(env=slurm("4711"))
    process.send_signal(signal.SIGUSR1)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 138 and "SLURM will start job 4711 again." in out
    assert (project.folder / "asked").read_text() == "requeue 4711\n"


def test_a_requeue_that_fails_is_told(endless, slurm):
    process = endless(env=slurm("13"))
    process.send_signal(signal.SIGUSR1)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 138 and "scontrol requeue 13 failed" in out


def test_other_signals_do_not_requeue(project, endless, slurm):
    process = endless(env=slurm("4711"))
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143 and not (project.folder / "asked").exists()


def test_an_interrupt_before_the_first_step_is_no_traceback(project, write_into):
    class Interrupted(trainer.trainer.Trainer):
        def train_step(self, batch):
            os.kill(os.getpid(), signal.SIGINT)
            return super().train_step(batch)

    write_into(trainer.trainer, Interrupted)
    code, _, err = project.command(train_script, "-c", project.write_config(trainer={"type": "Interrupted"}))
    assert (code, err) == (130, "Stopped at once.\n")
    assert project.run_dirs() == []


def test_handlers_are_put_back(project):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    project.train(data_loader={"batch_size": 64, "num_workers": 1})
    assert before == {number: signal.getsignal(number) for number in before}
    assert json.loads((project.run_dirs()[0] / "metrics.jsonl").read_text().splitlines()[-1])["epoch"] == 2
