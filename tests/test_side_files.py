"""What lies beside the checkpoints may be lost or damaged, too; and the screen may be gone."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT, load, metrics_of

import train as train_script
import trainer.trainer
from base.checkpoints import Checkpoints

MORE = ("--set", "trainer.epochs=3")


@pytest.mark.parametrize("line", [b"\xff\xfe\x00garbage\n", b'{"epoch": "x"}\n', b"3\n", b'{"epoch": 3, "lo'])
def test_damaged_lines_of_metrics_are_dropped(project, line):
    run = project.train()
    with open(run / "metrics.jsonl", "ab") as file:
        file.write(line)
    project.resume(run, *MORE)
    assert [line["epoch"] for line in metrics_of(run)] == [1, 2, 3]


def test_lines_that_are_missing_are_told(project):
    run = project.train()
    (run / "metrics.jsonl").unlink()
    assert "metrics.jsonl has the values of 0 epochs out of 2." in project.resume(run, *MORE)


@pytest.mark.parametrize("content", ["5", "not json", None])
def test_an_environment_that_is_damaged_or_gone_begins_anew(project, content):
    run = project.train()
    (run / "environment.json").write_text(content) if content else (run / "environment.json").unlink()
    project.resume(run, *MORE)
    assert len(json.loads((run / "environment.json").read_text())) == 1


@pytest.mark.parametrize("names", [["environment.json"], ["train.log"], ["metrics.jsonl"]])
def test_auto_knows_a_run_that_has_lost_a_file(project, names):
    run = project.train(trainer={"epochs": 1})
    for name in names:
        (run / name).unlink()
    code, out, _ = project.command(train_script, "-c", project.write_config(), "-r", "auto")
    assert code == 0 and f"Going on after epoch 1 in {run}" in out


def test_a_config_that_is_gone_is_named_with_its_copy(project):
    run = project.train()
    (run / "config.json").unlink()
    message = project.refused("-r", run)
    assert (
        f"{run}/config.json: is missing. The checkpoints hold a copy: the entry 'config' of {run}/last.pth." in message
    )
    message = project.refused("-c", project.write_config(), "-r", "auto")
    assert f"{run}/config.json: no such config file." in message
    assert f"Correct it, or move {run} elsewhere to start a new run." in message


def test_a_damaged_config_of_an_older_run_holds_nobody_up(project):
    old = project.train()
    (old / "config.json").write_text("{")
    newer = project.train()
    code, out, _ = project.command(train_script, "-c", project.write_config(), "-r", "auto")
    assert code == 0 and f"{newer} is finished" in out and "This run is skipped." in out


@pytest.mark.parametrize("is_kept", [True, False])
def test_without_its_file_the_best_epoch_is_scored_if_it_is_still_there(project, is_kept):
    schedule = {"type": "MultiStepLR", "args": {"milestones": [1], "gamma": 0.0}}  # epoch 1 stays the best
    run = project.train(lr_scheduler=schedule, trainer={"epochs": 3, "keep_last": None if is_kept else 1})
    (run / "model_best.pth").unlink()
    name, epoch = ("checkpoint-epoch1.pth", 1) if is_kept else ("last.pth", 3)
    assert f"Taking {name} instead, of epoch {epoch}" in project.test("-r", run)[1]


def test_where_there_never_was_a_best_the_last_is_scored_without_a_word(project):
    run = project.train(trainer={"monitor": "off", "early_stop": None})
    assert "instead" not in project.test("-r", run)[1]


# ---- the log ----


class Ending(trainer.trainer.Trainer):
    error: BaseException

    def train_step(self, batch):
        if self.step == 25:
            raise self.error
        return super().train_step(batch)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (MemoryError("no more"), 1, "Ended by RunError: step 26: out of memory with a batch of 64: no more"),
        (KeyboardInterrupt(), 130, "Ended by KeyboardInterrupt: "),
        (ZeroDivisionError("a bug"), 1, "ZeroDivisionError: a bug"),
    ],
)
def test_what_ended_a_run_stands_in_its_log(project, write_into, monkeypatch, error, code, words):
    write_into(trainer.trainer, Ending)
    monkeypatch.setattr(Ending, "error", error, raising=False)
    arguments = ["-c", project.write_config(trainer={"type": "Ending"})]
    assert project.command(train_script, *arguments)[0] == code
    text = (project.run_dirs()[0] / "train.log").read_text()
    assert words in text
    assert ("Traceback" in text) == (not isinstance(error, MemoryError))


# ---- the screen ----


@pytest.mark.parametrize("closing", [">&-", ">&- 2>&-"])
def test_a_run_needs_no_screen(project, closing):
    command = f"{sys.executable} train.py -c {project.write_config()} {closing}"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert load(project.run_dirs()[0] / "last.pth")["epoch"] == 2


def test_a_reader_who_has_seen_enough_is_no_traceback(project):
    run = project.train()
    command = f"{sys.executable} test.py -r {run} | head -c 1"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and "Traceback" not in done.stderr


# ---- going back ----


def test_what_came_later_is_deleted_only_when_the_run_has_been_sent_back(project, monkeypatch):
    """Killed in between, the run is at its earlier epoch already; the rest is done by the next start."""
    run = project.train(trainer={"epochs": 4, "keep_last": None})
    assert load(run / "model_best.pth")["epoch"] == 4
    order = []
    for name in ("drop_later", "save_checkpoint"):
        real = getattr(sys.modules[Checkpoints.__module__], name)
        monkeypatch.setattr(
            sys.modules[Checkpoints.__module__], name, lambda *a, name=name, real=real: (order.append(name), real(*a))
        )
    out = project.resume(run / "checkpoint-epoch2.pth", "--set", "trainer.epochs=3")
    assert order[:2] == ["save_checkpoint", "drop_later"]
    assert "Deleting what came later: checkpoint-epoch3.pth, checkpoint-epoch4.pth" in out
