"""The same run on 1, 2 and 4 processes, started by torchrun: the same numbers, one directory, one log."""

import json
import math
import shutil

import pytest
import torch
from conftest import ROOT, Project, load, metrics_of
from ranks import torchrun

from utils.batches.sharding import own_parts

CONFIG = {"dropout": 0.0}
SETTINGS = {"epochs": 3, "log_steps": 1, "tensorboard": True, "monitor": "min val_loss"}
SETTINGS |= {"save_steps": 7, "keep_last": None}


def assert_close(first, second, tolerance=1e-6):
    """Lines of metrics, equal but for what is lost when sums are made in another order."""
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert math.isclose(one[name], other[name], rel_tol=tolerance, abs_tol=tolerance), name


def step_losses(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run))
    events.Reload()
    return [event.value for event in events.Scalars("step/loss")]


def write(project):
    """The config of a run without dropout, whose random numbers differ from process to process."""
    arguments = project.config["model"]["args"] | CONFIG
    return project.write_config(model={"type": "LeNet", "args": arguments}, trainer=SETTINGS)


def run_on(processes, project, *start):
    """Train with a number of processes; the run directory and what was said."""
    done = torchrun(*start, processes=processes)
    assert done.returncode == 0, done.stdout + done.stderr
    return project.run_dirs()[-1], done.stdout + done.stderr


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    """A run of two processes, with checkpoints within its epochs, and what was said."""
    project = Project(tmp_path_factory.mktemp("two"), None)
    return run_on(2, project, "-c", write(project))


def test_one_two_and_four_processes_are_the_same_run(project, of_two):
    config = write(project)
    alone = project.train_with(config)
    for processes, (run, said) in {2: of_two, 4: run_on(4, project, "-c", config)}.items():
        assert_close(metrics_of(run), metrics_of(alone))
        losses, expected = step_losses(run), step_losses(alone)
        assert len(losses) == 3 * 20 and all(map(lambda *pair: math.isclose(*pair, rel_tol=1e-6), losses, expected))
        assert f"{processes} processes, batch_size 64: {64 // processes} samples each." in said
        assert said.count("New run in") == 1 and said.count("Finished: ") == 1
        assert (run / "train.log").read_text().count("New run in") == 1
        weights, expected = load(run / "last.pth")["model"], load(alone / "last.pth")["model"]
        assert list(weights) == list(expected)
        for name in weights:
            assert torch.allclose(weights[name], expected[name], rtol=1e-4, atol=1e-5), name
    assert len(project.run_dirs()) == 2
    scores = json.loads(torchrun("-r", of_two[0], script="test.py").stdout.splitlines()[-1])
    assert_close([scores], [project.test("-r", of_two[0])[0]])


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [1, 2, 64])
@pytest.mark.parametrize("samples", [1, 7, 64, 65, 66, 129])
def test_no_sample_is_dropped_or_repeated(samples, size, ranks):
    batches = [list(range(first, min(first + size, samples))) for first in range(0, samples, size)]
    parts = [[own for own, _ in own_parts(iter(batches), rank, ranks)] for rank in range(ranks)]
    assert sorted(index for own in parts for part in own for index in part) == list(range(samples))
    assert all(part for own in parts for part in own)
    assert max(len(part) for own in parts for part in own) <= max(2, -(-size // ranks) + 1)
    if samples >= ranks:
        assert len({len(own) for own in parts}) == 1


def test_a_run_goes_on_with_another_number_of_processes(project, of_two):
    run = project.folder / "saved" / "digits_lenet" / "copy"
    shutil.copytree(of_two[0], run)
    whole, middle = metrics_of(run), run / "checkpoint-step28.pth"
    assert middle.is_file() and len(load(middle)["other_ranks"]) == 1
    for processes in (1, 4):
        said = project.resume(middle) if processes == 1 else run_on(4, project, "-r", middle)[1]
        assert "Going on after step 28, within epoch 2" in said
        assert f"is of 2 processes, this run has {processes}: it goes on from the same sample" in said
        assert_close(metrics_of(run), whole, 1e-5)


EXACT = 2e-6  # float32, after three steps of Adam


@pytest.fixture(scope="module")
def steps_of_ranks(tmp_path_factory):
    """What `steps_on_ranks.py` says: one start of two processes for all of it."""
    config = json.loads((ROOT / "tests" / "config.json").read_text())
    config["model"]["args"] |= {"channels": [4, 8], "hidden": 16} | CONFIG
    config |= {"n_gpu": 0, "optimizer": {"type": "Adam", "args": {"lr": 0.001}}, "lr_scheduler": None}
    path = tmp_path_factory.mktemp("steps") / "config.json"
    path.write_text(json.dumps(config))
    done = torchrun(path, script="tests/steps_on_ranks.py", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [
        ("plain", EXACT),
        ("unequal parts", EXACT),
        ("micro-batches", EXACT),
        ("unequal micro-batches", EXACT),
        ("clipped", EXACT),
        ("class weights", EXACT),
        ("class weights, micro-batches", EXACT),
        ("momentum", EXACT),
        ("sharded, class weights", EXACT),
        ("sharded, momentum", EXACT),
        ("sharded, Adagrad", EXACT),
        ("averaged", EXACT),
        ("checkpointed", EXACT),
        ("compiled", 1e-5),
        ("short of memory", EXACT),
        ("bf16", 5e-3),
        ("fp16", 5e-3),
        ("sharded", EXACT),
        ("sharded, unequal parts", EXACT),
        ("sharded, unequal micro-batches", EXACT),
        ("sharded, micro-batches of one", EXACT),
        ("sharded, clipped", EXACT),
        ("sharded, checkpointed", EXACT),
        ("sharded, compiled", 1e-5),
        ("sharded, kept gathered", EXACT),
        ("sharded, bf16", 5e-3),
        ("sharded, fp16", 5e-3),
    ],
)
def test_a_step_of_two_processes_is_that_of_the_whole_batch(steps_of_ranks, kind, tolerance):
    found = steps_of_ranks[kind]
    assert found["apart"] < tolerance and found["same_on_all_ranks"]


@pytest.mark.parametrize("processes", [2, 3])
def test_gradients_are_those_of_the_whole_batch_without_a_line_in_the_step(processes):
    """7 and 8 samples on 2 and 3 processes: equal and unequal parts, with losses over samples, over labelled items, and
    with penalties on parameters."""
    done = torchrun(script="tests/gradients_on_ranks.py", processes=processes, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    errors = json.loads(done.stdout.splitlines()[-1])
    assert len(errors) == 16 and {name: error for name, error in errors.items() if not error < 2e-6} == {}


def test_what_does_not_go_with_shards(steps_of_ranks):
    words = [
        "ema_decay: does not",
        '"auto" does not',
        "modules: the model has no module of class Block. Choices: Conv2d, ",
        "model.channels_last: does",
    ]
    assert len(steps_of_ranks["refused"]) == len(words)
    assert all(word in text for word, text in zip(words, steps_of_ranks["refused"], strict=True))


def test_gradients_are_exchanged_once_a_step(steps_of_ranks):
    assert steps_of_ranks["micro-batches"]["exchanges"] == steps_of_ranks["no micro-batches"]["exchanges"] > 0


def test_processes_agree_on_how_much_memory_there_is(steps_of_ranks):
    assert steps_of_ranks["short of memory"]["sizes"] == [8, 8]
