"""Where the time goes, on the screen and in a trace that other programs open."""

import gzip
import json
import multiprocessing
import re
from collections import Counter

import pytest
from torch.utils.data import IterableDataset

import data_loader.datasets
import trainer.trainer
from base.checks.profile import profile
from utils.errors import UserError

# torch_tb_profiler/consts.py: the files that TensorBoard's profiler plugin takes for traces.
PLUGINS_PATTERN = re.compile(r"^(.*?)(\.\d+)?\.pt\.trace\.json(?:\.gz)?$")


@pytest.fixture(autouse=True)
def _heard(caplog):
    caplog.set_level("INFO")


def events(folder):
    """How often each name is in the only file of a folder."""
    (path,) = folder.iterdir()
    assert PLUGINS_PATTERN.match(path.name)[2]
    trace = json.loads(gzip.decompress(path.read_bytes()))
    return Counter(event["name"] for event in trace["traceEvents"] if event.get("cat") in ("user_annotation", "cpu_op"))


def test_the_screen_says_what_takes_the_longest_and_the_trace_everything(project, capfd, caplog):
    folder = project.folder / "saved" / "profile"
    built = project.trainer()
    profile(built, folder)
    out, err = capfd.readouterr()
    line, *table = out.splitlines()
    found = re.fullmatch(
        r"profile: (\S+) s a step, (\d+)% of it waiting for data \(10 steps after 3 to warm up\)", line
    )
    assert float(found[1]) > 0 and 0 <= int(found[2]) <= 100
    assert any("Self CPU" in row for row in table) and any("aten::convolution" in row for row in table)
    assert len(table) < 25 and max(map(len, table)) < 130 and err == ""
    assert f"{next(folder.iterdir())}" in caplog.messages[-1]
    found = events(folder)
    assert found["load batch"] == found["train_step"] == 10 and found["aten::conv2d"] == 20
    assert found["Optimizer.step#Adam.step"] == 10
    assert built.step == 13 and built.metrics.compute()["ConfusionMatrix"].sum() == 0


@pytest.mark.parametrize(
    ("settings", "loader", "steps"),
    [
        ({}, {"batch_size": 2000}, 1),
        ({}, {"batch_size": 1000}, 1),
        ({}, {"batch_size": 250, "num_workers": 2}, 3),
        ({"epoch_steps": 5}, {"batch_size": 64}, 2),
        ({"epoch_steps": 14}, {"batch_size": 1000, "num_workers": 1}, 10),
    ],
)
def test_no_more_than_an_epoch_and_no_worker_is_left(project, settings, loader, steps):
    built = project.trainer(trainer=settings, data_loader=loader | {"persistent_workers": False})
    profile(built, project.folder / "profile")
    found = events(project.folder / "profile")
    assert found["load batch"] == found["train_step"] == built.step - min(3, built.step - 1) == steps
    assert not multiprocessing.active_children()


class Stream(IterableDataset):
    """The first digits."""

    def __init__(self, split):
        self.digits = data_loader.datasets.Digits(split)

    def __iter__(self):
        yield from (self.digits[i] for i in range(100))


def test_a_stream_and_a_second_profile_beside_the_first(project, write_into):
    write_into(data_loader.datasets, Stream)
    for _ in range(2):
        profile(project.trainer(dataset="Stream"), project.folder / "profile")
    assert len(list((project.folder / "profile").iterdir())) == 2


def test_a_folder_that_cannot_be_is_told(project):
    (project.folder / "file").touch()
    with pytest.raises(UserError, match=r"--profile: .*/file/profile cannot be written: Not a directory\."):
        profile(project.trainer(), project.folder / "file" / "profile")


class Failing(trainer.trainer.Trainer):
    """Cannot be trained."""

    def train_step(self, batch):
        raise FileNotFoundError("mine")


def test_an_error_of_the_step_is_its_own(project, write_into):
    write_into(trainer.trainer, Failing)
    with pytest.raises(FileNotFoundError, match="mine"):
        profile(project.trainer(trainer={"type": "Failing"}), project.folder / "profile")
    assert not list((project.folder / "profile").iterdir())
