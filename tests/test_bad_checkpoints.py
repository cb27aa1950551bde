"""A checkpoint that is damaged, malicious, no run, or could not be loaded again: one message, and nothing else."""

import pytest
import torch
from conftest import assert_same, load

import test as test_script
import train as train_script
import trainer.trainer
from model.model import LeNet
from utils.checkpoints.checkpoint import CheckpointError, load_checkpoint


def damaged(path):
    good = path.read_bytes()
    return {
        "empty": b"",
        "text": b"not a checkpoint",
        "html": b"<!DOCTYPE html><html>404</html>",
        "truncated": good[: len(good) // 2],
        "zero tail": good[: len(good) // 2] + bytes(len(good) // 2),
    }


@pytest.mark.parametrize("case", ["empty", "text", "html", "truncated", "zero tail"])
def test_a_damaged_file_is_one_message(project, case):
    run = project.train()
    path = run / "last.pth"
    content = damaged(path)[case]
    path.unlink()  # it shares its content with other names
    path.write_bytes(content)
    for script in (train_script, test_script):
        message = project.refused("-r", path, script=script)
        assert f"{path}: not a readable checkpoint" in message
        assert message.count("\n") == 1


def test_a_file_of_something_else_says_of_what(project):
    path = project.folder / "number.pth"
    torch.save(3, path)
    assert "number.pth: holds a int, not a checkpoint." in project.refused("-r", path)


def test_a_checkpoint_carried_away_is_no_run_to_continue(project, monkeypatch):
    run = project.train(metrics=["accuracy"])
    (project.folder / "carried.pth").write_bytes((run / "last.pth").read_bytes())
    message = project.refused("-r", project.folder / "carried.pth")  # a config.json lies beside it
    assert "lies in no run directory, so there is no run to continue." in message
    project.write_config()
    assert set(project.test("-r", project.folder / "carried.pth")[0]) == {"loss", "accuracy"}


class Odd:
    def __init__(self, state):
        self.state = state

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


@pytest.mark.parametrize(
    ("name", "state", "message"),
    [
        ("step", {}, "OddTrainer.stateful: 'step' is a key of the run's own. Choose another name."),
        ("mine", {"score": print}, "mine.score: holds a builtins.builtin_function_or_method, which could not be read"),
    ],
)
def test_a_part_that_could_not_be_loaded_again_is_refused_at_the_start(project, write_into, name, state, message):
    class OddTrainer(trainer.trainer.Trainer):
        def stateful(self):
            return super().stateful() | {name: Odd(state)}

    write_into(trainer.trainer, OddTrainer)
    assert message in project.refused_config(trainer={"type": "OddTrainer"})


def test_a_bug_in_a_state_dict_is_no_full_disk(project, write_into):
    class Buggy(Odd):
        def state_dict(self):
            if self.state["calls"] > 0:
                raise RuntimeError("my bug")
            self.state["calls"] += 1
            return {}

    class BuggyTrainer(trainer.trainer.Trainer):
        part = Buggy({"calls": 0})

        def stateful(self):
            return super().stateful() | {"buggy": self.part}

    write_into(trainer.trainer, BuggyTrainer)
    code, _, err = project.command(train_script, "-c", project.write_config(trainer={"type": "BuggyTrainer"}))
    assert code == 1 and "error: RuntimeError: my bug" in err and "test_bad_checkpoints.py:" in err


def test_weights_alone_are_no_run(project):
    path = project.folder / "weights.pth"
    torch.save(LeNet(10).state_dict(), path)
    message = project.refused("-r", path)
    assert (
        "holds no run, perhaps weights only. To start from weights: python train.py -c CONFIG --init-from FILE."
        in message
    )


def test_a_plain_state_dict_is_enough_to_start_from(project):
    path = project.folder / "weights.pth"
    torch.save(LeNet(10, channels=(4, 8), hidden=16).state_dict(), path)
    project.train("--init-from", path)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_names_of_a_wrapped_module_are_those_of_the_module(project, prefix):
    path = project.folder / "weights.pth"
    weights = LeNet(10, channels=(4, 8), hidden=16).state_dict()
    torch.save({prefix + name: value for name, value in weights.items()}, path)
    started = project.train("--init-from", path, "--lr", "0.0", lr_scheduler=None)
    assert_same(dict(weights), dict(load(started / "last.pth")["model"]))


def test_a_newer_format_is_refused(project):
    run = project.train()
    path = run / "newer.pth"
    torch.save(load(run / "last.pth") | {"format": 4}, path)
    assert "has format 4; this version reads up to 3. Update it." in project.refused("-r", path)


@pytest.mark.parametrize("script", [train_script, test_script])
def test_a_run_that_is_not_there_names_its_neighbour(project, script):
    run = project.train()
    misspelt = run.parent / (run.name[:-1] + "x")
    told = "no such run directory or checkpoint."
    message = project.refused("-r", misspelt, script=script)
    assert message == f"error: {misspelt}: {told} Closest match: {run}.\n"
    message = project.refused("-r", run / "model_bets.pth", script=script)
    assert message == f"error: {run}/model_bets.pth: {told} Closest match: model_best.pth.\n"
    message = project.refused("-r", run / "x", script=script)
    assert (
        message
        == f"error: {run}/x: {told} Choices: checkpoint-epoch1.pth, checkpoint-epoch2.pth, last.pth, model_best.pth.\n"
    )


@pytest.mark.parametrize("script", [train_script, test_script], ids=["train", "test"])
def test_beside_a_checkpoint_that_is_not_there_runs_are_named_and_not_files(project, script, monkeypatch):
    monkeypatch.chdir(project.folder)
    told = "error: model_best.pth: no such run directory or checkpoint."
    assert project.refused("-r", "model_best.pth", script=script) == f"{told} Working directory: {project.folder}.\n"
    run = project.train().relative_to(project.folder)
    assert project.refused("-r", "model_best.pth", script=script) == f"{told} Choices: {run}.\n"


def test_a_run_without_a_checkpoint_says_so(project):
    (project.folder / "empty").mkdir()
    message = project.refused("-r", project.folder / "empty")
    assert "has no checkpoint. A run directory holds one from the start on." in message
    run = project.train()
    assert f"has no checkpoint. Its newest run is {run.name}." in project.refused("-r", run.parent)


def test_a_folder_is_told_from_a_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="a folder. Name a checkpoint in it."):
        load_checkpoint(tmp_path)
