"""Looking for a mistake: shorter validation, a whole run in small, and the line whose gradient is not a number."""

import json
import multiprocessing
import warnings
from pathlib import Path

import pytest
import torch
from conftest import ROOT, assert_same, load, metrics_of
from torch import nn
from torch.utils.data import IterableDataset

import data_loader.datasets
import model.model
import train as train_script
import trainer.trainer
from base.checks.anomaly import detect_anomaly
from base.checks.preflight import check_before_training
from data_loader.datasets import Digits
from utils.config.fast_dev_run import fast_dev_run
from utils.errors import RunError
from utils.exit_codes import exit_code_of

# ---- trainer.valid_steps ----


class Looking(trainer.trainer.Trainer):
    """Keeps the targets of each validation step of the run."""

    def valid_step(self, batch):
        self.__dict__.setdefault("seen", []).append(batch[1].tolist())
        return super().valid_step(batch)


class Stream(IterableDataset):
    """The digits, one after another; each worker has its share."""

    def __init__(self, split):
        self.digits = Digits(split)

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        start, step = (worker.id, worker.num_workers) if worker else (0, 1)
        yield from (self.digits[i] for i in range(start, len(self.digits), step))


@pytest.fixture
def validate(project, write_into):
    """The targets that each of three validations sees."""
    write_into(trainer.trainer, Looking)
    write_into(data_loader.datasets, Stream)

    def run(steps, **sections):
        built = project.trainer(trainer={"type": "Looking", "valid_steps": steps}, **sections)
        rounds = []
        for _ in range(3):
            built.seen = []
            built.evaluate("valid", built.run.options.valid_steps)
            rounds.append(built.seen)
        return rounds

    return run


FIRST = Digits("valid").targets.split(64)


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_first_batches_are_validated_each_time(validate, workers, persistent):
    loader = {"batch_size": 64, "num_workers": workers, "persistent_workers": persistent and workers > 0}
    assert validate(2, data_loader=loader) == [[targets.tolist() for targets in FIRST[:2]]] * 3
    assert persistent or not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_those_of_a_stream_too(validate, workers):
    rounds = validate(2, dataset="Stream", data_loader={"batch_size": 16, "num_workers": workers})
    assert rounds == [rounds[0]] * 3 and [len(targets) for targets in rounds[0]] == [16, 16]
    assert sorted(sum(rounds[0], [])) == sorted(Digits("valid").targets[:32].tolist())
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("dataset", ["Digits", "Stream"])
def test_a_smaller_validation_set_is_read_once(validate, dataset):
    assert validate(100, dataset=dataset) == [[targets.tolist() for targets in FIRST]] * 3


class Noting(Digits):
    """Writes down what is loaded for validation, in whichever process."""

    folder: Path

    def __getitems__(self, indices):
        if self.split == "valid":
            (self.folder / str(indices[0])).touch()
        return super().__getitems__(indices)


def test_no_worker_loads_what_nobody_asks_for(validate, write_into, tmp_path):
    Noting.folder = tmp_path / "loaded"
    Noting.folder.mkdir()
    write_into(data_loader.datasets, Noting)
    validate(2, dataset="Noting", data_loader={"batch_size": 20, "num_workers": 2})
    assert sorted(path.name for path in Noting.folder.iterdir()) == ["0", "20"]


def test_a_run_is_validated_in_part_and_scored_whole(project):
    runs = [project.train(trainer={"valid_steps": steps, "monitor": "off", "early_stop": None}) for steps in (None, 1)]
    whole, part = map(metrics_of, runs)
    assert [line["loss"] for line in whole] == [line["loss"] for line in part]
    assert whole[-1]["val_loss"] != part[-1]["val_loss"]
    for split in ("valid", "test"):
        whole_scores, part_scores = (project.test("-r", run / "last.pth", "--split", split)[0] for run in runs)
        assert whole_scores == part_scores
    assert "trainer.valid_steps: cannot change when a run is resumed" in project.refused(
        "-r", runs[0], "--set", "trainer.valid_steps=1"
    )


# ---- a whole run in small ----


def folder_of(assignments):
    return Path(json.loads(assignments[-1].removeprefix("trainer.save_dir=")))


def test_a_whole_run_in_small_leaves_nothing_behind(project, capfd):
    config = project.write_config(trainer={"tensorboard": True, "epochs": 100, "save_period": 50})
    with fast_dev_run() as assignments:
        code, out, err = project.command(train_script, "-c", config, "--set", *assignments)
        assert code == 0, out + err
        (run,) = folder_of(assignments).glob("*/*")
        names = {path.name.split(".")[0] for path in run.iterdir()} - {""}
        assert names == {
            "config", "environment", "train", "metrics", "events", "last", "model_best", "checkpoint-epoch1",
            "checkpoint-step1",
        }  # fmt: skip
        assert load(run / "last.pth")["step"] == load(run / "last.pth")["epoch"] == 1
        assert [line["step"] for line in metrics_of(run)] == [1]
    assert not folder_of(assignments).exists() and project.run_dirs() == []
    assert capfd.readouterr().out == "Fast dev run: every part works. What it wrote is deleted.\n"


def test_nothing_is_left_after_an_error_either(project):
    with pytest.raises(RunError, match="mine"), fast_dev_run() as assignments:
        folder = folder_of(assignments)
        (folder / "run").mkdir()
        raise RunError("mine")
    assert not folder.exists()


def test_without_the_option_nothing_is_changed():
    with fast_dev_run(False) as assignments:
        assert assignments == []


# ---- the line whose gradient is not a number ----


class Root(nn.Module):
    """The derivative of the root is infinite at 0."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, images):
        outputs = self.layer(images.flatten(1))
        return torch.log_softmax(self.spoilt(outputs), dim=1)

    def spoilt(self, outputs):
        return outputs + 0 * (outputs - outputs).sqrt()  # here


class InLibrary(Root):
    """The same, in a library within the project's folder."""

    path = ".venv/lib/site-packages/library.py"

    def spoilt(self, outputs):
        library = {}
        exec(compile("def root(x):\n    return (x - x).sqrt()", ROOT / self.path, "exec"), library)  # noqa: S102
        return outputs + 0 * library["root"](outputs)  # here


class InBase(InLibrary):
    """The same, by the run around the step."""

    path = "base/library.py"


class InPlace(Root):
    """Changes what the backward pass needs."""

    def spoilt(self, outputs):
        gate = outputs.sigmoid()  # here
        gate += 1
        return gate


def line_of(cls, source):
    """Where the line stands in this file."""
    lines = Path(__file__).read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"class {cls.__name__}("))
    return next(i for i, line in enumerate(lines, 1) if i > start and source in line)


@pytest.mark.parametrize(
    ("cls", "found"),
    [
        (Root, "Function 'SqrtBackward0' returned nan values in its 0th output."),
        (InLibrary, "Function 'SqrtBackward0' returned nan values in its 0th output."),
        (InBase, "Function 'SqrtBackward0' returned nan values in its 0th output."),
        (InPlace, "one of the variables needed for gradient computation has been modified by an inplace operation"),
    ],
)
def test_a_message_names_the_line(project, write_into, monkeypatch, capfd, cls, found):
    monkeypatch.chdir(ROOT)
    write_into(model.model, cls)
    built = project.trainer(model=cls.__name__, metrics=[])

    def command():
        with detect_anomaly():
            check_before_training(built)

    assert exit_code_of(command) == 2
    first, second, *others = capfd.readouterr().err.splitlines()
    number = line_of(InLibrary if cls is InBase else cls, "# here")
    source = Path(__file__).read_text().splitlines()[number - 1].strip()
    assert first.startswith(f"error: in the backward pass: {found}") and "Hint" not in first
    assert second == f"error: Its forward call: tests/test_debug.py:{number} in spoilt: {source}"
    assert others == ([f"error: in there: {cls.path}:2 in root"] if issubclass(cls, InLibrary) else [])
    assert not torch.is_anomaly_enabled()


def test_gradients_of_gradients_are_followed_back():
    weight = torch.zeros(1, requires_grad=True)

    def power():
        return weight**1.5

    with pytest.raises(RunError, match=r"in test_gradients.*\nwhich goes back to: .*test_debug.py:\d+ in power: "):
        with detect_anomaly():
            (gradient,) = torch.autograd.grad(power().sum(), weight, create_graph=True)
            (0 * gradient).sum().backward()


class Bug(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise RuntimeError("mine")


def test_other_errors_and_warnings_come_out_as_they_are(project):
    with pytest.warns(UserWarning, match="Error detected in BugBackward. Traceback of forward call"):
        with pytest.raises(RuntimeError, match="mine"), detect_anomaly():
            Bug.apply(torch.ones((), requires_grad=True)).backward()
    with pytest.warns(UserWarning, match="mine"), detect_anomaly():
        warnings.warn("mine", stacklevel=1)


def test_a_sound_run_is_the_same_run(project):
    sections = {"trainer": {"epochs": 1, "epoch_steps": 2}}
    with detect_anomaly():
        watched = project.train(**sections)
        assert torch.is_anomaly_enabled()
    assert_same(load(watched / "last.pth"), load(project.train(**sections) / "last.pth"))
