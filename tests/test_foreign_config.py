"""A checkpoint that lies in no run directory is scored by the config inside it, which decides about no machine."""

import pytest
import torch
from conftest import load

import data_loader.datasets
import test as test_script
from data_loader.datasets import Digits
from utils.encoding import visible


@pytest.fixture
def foreign(project):
    """A checkpoint in a folder of its own, whose config was changed."""

    def make(change):
        checkpoint = load(project.train(metrics=["accuracy"], trainer={"epochs": 1}) / "last.pth")
        change(checkpoint["config"])
        checkpoint["format"] = 1  # without a checksum
        torch.save(checkpoint, project.folder / "foreign.pth")
        return project.folder / "foreign.pth"

    return make


def test_it_starts_no_workers_and_compiles_nothing(project, foreign, monkeypatch):
    def change(config):
        config["data_loader"] |= {
            "num_workers": 3,
            "prefetch_factor": 9,
            "persistent_workers": True,
            "batch_size": 10**9,
        }
        config["trainer"]["args"]["compile"] = True
        config["n_gpu"] = 64
        config["parallel"] = {"type": "fsdp"}

    calls = []
    monkeypatch.setattr("torch.nn.Module.compile", lambda *_, **__: calls.append("compile"))
    monkeypatch.setattr("torch.multiprocessing.Process.start", lambda *_: calls.append("worker"))
    path = foreign(change)
    assert project.test("-r", path, "-d", "cpu")[0]["accuracy"] >= 0
    assert calls == []
    project.test("-r", path, "-d", "cpu", "--set", "trainer.args.compile=true")
    assert calls == ["compile"]


@pytest.mark.parametrize("args", [{}, {"download": True}])
def test_it_downloads_nothing_and_makes_no_folder(project, foreign, args):
    folder = project.folder / "new"

    def change(config):
        config["dataset"] = {"type": "MNIST", "args": {"data_dir": str(folder), **args}}

    message = project.refused("-r", foreign(change), script=test_script)
    assert "lacks files of MNIST, and download is off." in message
    assert not folder.exists()


def test_its_model_is_compared_with_its_weights_before_memory_is_allocated(project, foreign):
    def change(config):
        config["model"]["args"]["hidden"] = 10**10

    message = project.refused("-r", foreign(change), script=test_script)
    assert "foreign.pth: its config's model is larger than its weights: fc1.weight (10000000000, " in message


class Evil(Digits):
    """Quotes what the file says."""

    def __init__(self, split, word):
        raise ValueError(word)


NAME = "\x1b]0;title\x07 \x9b31m \u202e"


@pytest.mark.parametrize("place", ["metric", "key", "value", "type"])
def test_names_do_not_steer_the_terminal(project, foreign, write_into, place):
    write_into(data_loader.datasets, Evil)

    def change(config):
        match place:
            case "metric":
                config["metrics"] = [{"type": "accuracy", "name": NAME}]
            case "key":
                config[NAME] = 1
            case "value":
                config["dataset"] = {"type": "Evil", "args": {"word": NAME}}
            case "type":
                config["loss"] = NAME

    message = project.refused("-r", foreign(change), script=test_script)
    assert message.removesuffix("\n").isprintable(), message
    assert "\\u001b" in message or "\\x1b" in message


def test_what_is_escaped():
    assert visible("a\tb\n\u3000한국어 é") == "a\tb\n\u3000한국어 é"
    assert visible("\x1b[2J\x9b\u202e\x7f") == "\\u001b[2J\\u009b\\u202e\\u007f"


def test_names_in_a_state_do_not_steer_the_terminal(project):
    path = project.folder / "weights.pth"
    torch.save({NAME: torch.ones(1)}, path)
    assert project.refused_config("--init-from", path).removesuffix("\n").isprintable()
