"""A checkpoint that lies in no run directory is scored by the config inside it, which decides about no machine."""

import pytest
import torch
from conftest import load

import data_loader.datasets
import test as test_script
import train as train_script
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
        config["trainer"]["type"] = "FullTrainer"
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

    path = foreign(change)
    assert "model.args.hidden: the checkpoint's config has 10000000000 here, which is too large. If you trust the " in (
        project.refused("-r", path, script=test_script)
    )


def test_a_smaller_one_too(project, foreign):
    def change(config):
        config["model"]["args"]["hidden"] = 10**7

    message = project.refused("-r", foreign(change), script=test_script)
    assert "foreign.pth: its config's model is larger than its weights: fc1.weight (10000000, " in message


class Looping(Digits):
    """Loops as often as an argument says."""

    def __init__(self, split, size=1, deep=()):
        super().__init__(split)
        for _ in range(size):
            pass


@pytest.mark.parametrize(
    ("args", "where"),
    [
        ({"size": 10**9}, "dataset.args.size"),
        ({"size": -(10**9)}, "dataset.args.size"),
        ({"deep": [[1], [[0] * 10**6]]}, "dataset.args.deep.1.0"),
        ({"deep": {"a": [10**12]}}, "dataset.args.deep.a.0"),
    ],
)
def test_its_numbers_and_lists_are_bounded(project, foreign, write_into, args, where):
    write_into(data_loader.datasets, Looping)
    path = foreign(lambda config: config.update(dataset={"type": "Looping", "args": args}))
    message = project.refused("-r", path, script=test_script)
    assert f"{where}: the checkpoint's config has " in message and f"If you trust the file: --set {where}=" in message
    assert len(message) < 1000
    if where == "dataset.args.size":
        project.test("-r", path, "--set", "dataset.args.size=20000000")


@pytest.mark.parametrize("metric", ["ConfusionMatrix", "top_k_accuracy"])
def test_so_are_those_of_its_metrics(project, foreign, metric):
    args = {"num_classes": 10**9} if metric == "ConfusionMatrix" else {"k": 10**9}
    path = foreign(lambda config: config.update(metrics=[{"type": metric, "args": args}]))
    assert f"metrics.0.args.{next(iter(args))}: the checkpoint's config has 1000000000 here" in (
        project.refused("-r", path, script=test_script)
    )


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


def test_names_of_files_and_metrics_do_not_steer_the_terminal_on_stdout(project, foreign):
    path = foreign(lambda config: config.update(metrics=["accuracy"])).rename(project.folder / f"{NAME.strip()}.pth")
    _, out = project.test("-r", path)
    assert "\\u001b" in out and all(line.isprintable() for line in out.splitlines()), out
    config = project.write_config(
        metrics=[{"type": "accuracy", "name": "\x1b[2J"}], trainer={"epochs": 1, "monitor": "min val_loss"}
    )
    for arguments in (["--seeds", "1"], ["--check"]):
        _, out, err = project.command(train_script, "-c", config, *arguments)
        assert "\x1b" not in out + err, arguments


def test_names_in_a_state_do_not_steer_the_terminal(project):
    path = project.folder / "weights.pth"
    torch.save({NAME: torch.ones(1)}, path)
    assert project.refused_config("--init-from", path).removesuffix("\n").isprintable()
