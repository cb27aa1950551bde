"""Event files over several starts of a run, and values that TensorBoard cannot take."""

import time

import pytest
import torch
from conftest import ROOT, metrics_of, run_python
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as ServerAccumulator

import trainer.trainer
from logger.tensorboard import SummaryWriter, TensorBoardWriter
from logger.writers import Writers

# ---- several starts of a run ----

TRAIN = """
import sys, time
sys.path.insert(0, sys.argv[1])
machine_time, back = time.time, float(sys.argv[2])
time.time = lambda: machine_time() - back
import train
train.main(sys.argv[3:])
"""
HOUR, YEAR = 3600, 365 * 24 * 3600


def steps_of(run, tag):
    """The steps of a scalar as the library reads them, and as TensorBoard's server does."""
    read = EventAccumulator(str(run), size_guidance={"scalars": 0}).Reload()
    shown = ServerAccumulator(str(run), size_guidance={"tensors": 0}).Reload()
    return [event.step for event in read.Scalars(tag)], [event.step for event in shown.Tensors(tag)]


def test_a_resumed_run_shows_each_step_once_whatever_the_clock_says(project):
    run = project.train(trainer={"tensorboard": True, "epochs": 2, "log_steps": 10, "keep_last": 9})
    for epochs, seconds in ((3, HOUR), (4, YEAR), (5, -YEAR), (6, 0)):
        more = ("--set", f"trainer.epochs={epochs}")
        done = run_python("-c", TRAIN, ROOT, seconds, "-r", run / "checkpoint-epoch1.pth", *more)
        assert done.returncode == 0, done.stderr
        steps = 20 * epochs
        for tag, expected in (("loss/train", [*range(20, steps + 1, 20)]), ("step/loss", [*range(10, steps + 1, 10)])):
            assert steps_of(run, tag) == (expected, expected)
    read = EventAccumulator(str(run)).Reload().Scalars("step/loss")
    assert [event.wall_time for event in read] == sorted(event.wall_time for event in read)


def test_the_file_of_a_resumed_run_comes_after_those_of_other_hosts(tmp_path):
    later = int(time.time()) + HOUR
    for host in ("zzz", "aaa"):
        (tmp_path / f"events.out.tfevents.{later}.{host}.1.0").touch()
    (tmp_path / "events.of.another.program").touch()
    TensorBoardWriter(tmp_path, {}, 1, 7).close({})
    assert max(file.name for file in tmp_path.glob("*tfevents*")).startswith(f"events.out.tfevents.{later + 1}.")


def test_a_run_that_starts_again_before_its_first_epoch_shows_each_step_once(tmp_path):
    for steps in (range(1, 8), range(1, 4)):
        writer = TensorBoardWriter(tmp_path, {})
        for step in steps:
            writer.step({"loss": 0.5}, step)
        writer.close({})
    assert steps_of(tmp_path, "step/loss") == ([1, 2, 3], [1, 2, 3])


def test_a_run_that_an_older_version_began_shows_each_step_once(tmp_path):
    with SummaryWriter(str(tmp_path)) as older:  # it wrote no start
        for step in range(1, 8):
            older.add_scalar("step/loss", 0.5, step)
    writer = TensorBoardWriter(tmp_path, {}, 1, 4)
    for step in range(5, 7):
        writer.step({"loss": 0.5}, step)
    writer.close({})
    expected = [1, 2, 3, 4, 5, 6]
    assert steps_of(tmp_path, "step/loss") == (expected, expected)


# ---- values that cannot be written ----


def refuse():
    raise OSError("cannot open resource")  # as Pillow does where a font is missing


def with_parameter(values):
    module = torch.nn.Module()
    module.register_parameter("bad", torch.nn.Parameter(values))
    module.register_parameter("good", torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16)))
    return {"model": module}


@pytest.mark.parametrize(
    ("what", "method", "arguments"),
    [
        ("bad", "picture", ["bad", refuse]),
        ("bad", "picture", ["bad", torch.zeros(7)]),
        ("bad", "picture", ["bad", "no picture"]),
        ("bad/valid", "matrices_in", [{"bad": torch.zeros(0, 0)}, "valid"]),
        ("bad", "matrix", ["bad", torch.zeros(0, 5)]),
        ("bad", "matrix", ["bad", torch.zeros(2, 2, 2)]),
        ("step/bad", "step", [{"bad": 10**400, "good": 1.0}]),
        ("step/\\ud800", "step", [{"\ud800": 1.0, "good": 1.0}]),
        ("\\ud800", "text", ["\ud800", "text"]),
        ("model.bad", "histograms", [with_parameter(torch.zeros(0))]),
        ("model.bad", "histograms", [with_parameter(torch.zeros(2) * 1j)]),
        ("model.bad", "histograms", [with_parameter(torch.ones(2) / 0)]),
        ("model.bad", "histograms", [with_parameter(torch.full((3,), 1e30))]),
    ],
    ids=range(13),
)
def test_a_value_that_cannot_be_written_costs_itself_and_one_warning(tmp_path, caplog, what, method, arguments):
    writers = Writers(TensorBoardWriter(tmp_path, {}))
    for step in (1, 2):
        getattr(writers, method)(*arguments, step)
        writers.step({"loss": 0.5}, step)
    writers.close({})
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1 and f"{what} is not written: " in messages[0], messages
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("step/loss")] == [1, 2]
    written = {tag for kind in ("scalars", "histograms", "images") for tag in events.Tags()[kind]}
    good = {"step": {"step/good"}, "histograms": {"model.good"}}.get(method, set())
    assert written == {"step/loss"} | good


def test_odd_matrices_are_drawn(tmp_path, caplog):
    writer = TensorBoardWriter(tmp_path, {})
    nan, inf = float("nan"), float("inf")
    odd = [torch.tensor([[nan, 1], [-2, inf]]), torch.eye(3, dtype=torch.bool), torch.ones(1, 1).half()]
    for i, matrix in enumerate(odd):
        writer.matrix(f"{i}", matrix, 1)
    writer.close({})
    assert not caplog.records and len(EventAccumulator(str(tmp_path)).Reload().Tags()["images"]) == 3


def test_a_config_with_half_a_character_and_a_huge_number_starts_and_ends(tmp_path, caplog):
    writer = TensorBoardWriter(tmp_path, {"name": "\ud800", "big": 10**400})
    writer.epoch({"epoch": 1, "step": 1, "loss": 0.5})
    writer.close({"epoch": 1, "step": 1, "loss": 0.5})
    assert "the table of hyperparameters is not written: " in caplog.text
    assert EventAccumulator(str(tmp_path)).Reload().Scalars("final/loss")[0].value == 0.5


def test_a_picture_that_cannot_be_opened_does_not_end_tensorboard(project, write_into):
    class Drawing(trainer.trainer.Trainer):
        """Draws from a file that is missing."""

        def on_epoch_end(self, values):
            self.writers.picture("missing", lambda: open("missing.png"), self.step)

    write_into(trainer.trainer, Drawing)
    run = project.train(trainer={"tensorboard": True, "type": "Drawing", "epochs": 2})
    assert steps_of(run, "loss/train") == ([20, 40], [20, 40])
    assert (run / "train.log").read_text().count("TensorBoard: missing is not written: FileNotFoundError") == 1
    assert len(metrics_of(run)) == 2
