"""Every checkpoint that is written can be read: whatever a person's code puts into a state, at any time of a run."""

import datetime
import enum
import fractions
import os
import pathlib
from collections import Counter, OrderedDict, defaultdict, deque

import numpy as np
import pytest
import torch
from conftest import assert_same, load

import model.metric
import model.model
import train as train_script
import trainer.trainer
from utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from utils.checkpoints.plain import NotPlain, plain, restored


class Colour(enum.Enum):
    RED = 1


def _itself():
    held = []
    held.append(held)
    return held


PLAIN = {  # with what it is after it was saved and loaded
    "float64": (np.float64(0.5), 0.5),
    "float32": (np.float32(0.1), np.float32(0.1)),
    "int64": (np.int64(3), 3),
    "bool_": (np.bool_(True), True),
    "array": (np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(2, 3)),
    "big_endian": (np.arange(3, dtype=">f4"), np.arange(3, dtype="f4")),
    "version": (torch.__version__, str(torch.__version__)),
    "deque": (deque([1, np.int8(2)], maxlen=5), [1, 2]),
    "defaultdict": (defaultdict(list, a=[1.0]), {"a": [1.0]}),
    "keys": ({np.int64(1): "a", (1, "b"): None}, {1: "a", (1, "b"): None}),
    "frozenset": (frozenset({1, 2}), {1, 2}),
    "range": (range(3), [0, 1, 2]),
    "with_gradient": (torch.ones(2, requires_grad=True) * 2, torch.full((2,), 2.0)),
    "kinds": (OrderedDict(a=Counter("aab")), OrderedDict(a=Counter("aab"))),
}
NOT_PLAIN = {
    "path": pathlib.Path("a"),
    "function": lambda: 1,
    "enum": Colour.RED,
    "date": datetime.datetime(2026, 1, 1),
    "fraction": fractions.Fraction(1, 3),
    "itself": _itself(),
    "texts": np.array(["a", "b"]),
    "longdouble": np.longdouble(1),
    "generator": torch.Generator(),
    "slice": slice(1),
}


NUMBERS = ("float64", "float32", "int64", "bool_", "fraction", "longdouble")  # which float() takes


class Counting:
    """A part of a trainer with a state of its own."""

    def __init__(self):
        self.state = {"step": 0, "more": [{}]}

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


class WithExtraState(model.model.LeNet):
    extra = None

    def get_extra_state(self):
        return {"extra": self.extra}

    def set_extra_state(self, state):
        self.extra = state["extra"]


class Seeing:
    """A metric with a number of its own."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.seen = 0

    def update(self, output, target):
        pass

    def compute(self):
        return torch.tensor(0.0)


class Planting(trainer.trainer.Trainer):
    """Puts a value into a place at the third of six steps."""

    place, value = "", None

    def __init__(self, **parts):
        super().__init__(**parts)
        self.counting = Counting()

    def train_step(self, batch):
        result = super().train_step(batch)
        if self.step + 1 == 3 and not self.is_rehearsal:
            self.plant(self.value)
        return result

    def plant(self, value):
        weight = next(iter(self.model.parameters()))
        match self.place:
            case "optimizer.param_groups.0.note":
                self.optimizer.param_groups[0]["note"] = value
            case "optimizer.state.0.note":
                self.optimizer.state[weight]["note"] = value
            case "lr_scheduler.note":
                self.lr_scheduler.scheduler.note = value
            case "model._extra_state.extra":
                self.model.extra = value
            case "counting.step":
                self.counting.state["step"] = value
            case "counting.more.0.note":
                self.counting.state["more"] = [{"note": value}]
            case "metric":
                self.metrics.objects["Seeing"].note = value
            case "values":
                self.note = value

    def on_epoch_end(self, values):
        if self.place == "values":
            values["note"] = self.note

    def stateful(self):
        return super().stateful() | {"counting": self.counting}


PLACES = [
    "optimizer.param_groups.0.note",
    "optimizer.state.0.note",
    "lr_scheduler.note",
    "model._extra_state.extra",
    "counting.step",
    "counting.more.0.note",
]


@pytest.fixture
def plant(project, write_into, monkeypatch):
    write_into(trainer.trainer, Planting)
    write_into(model.model, WithExtraState)
    write_into(model.metric, Seeing)
    config = project.write_config(
        metrics=["Seeing"],
        model={"type": "WithExtraState", "args": project.config["model"]["args"]},
        lr_scheduler={"type": "StepLR", "args": {"step_size": 1}},
        trainer={
            "type": "Planting",
            "epochs": 2,
            "epoch_steps": 3,
            "valid_steps": 1,
            "save_steps": 3,
            "keep_last": None,
        },
    )

    def plant(place, value):
        monkeypatch.setattr(Planting, "place", place)
        monkeypatch.setattr(Planting, "value", value)
        code, out, err = project.command(train_script, "-c", config)
        run = project.run_dirs()[-1]
        return code, err, run, {path.name: load(path) for path in run.glob("*.pth")}

    return plant


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("place", PLACES)
def test_plain_values_anywhere_are_read_again(plant, project, place, kind):
    value, expected = PLAIN[kind]
    code, err, run, checkpoints = plant(place, value)
    assert code == 0, err
    found = checkpoints["last.pth"]
    for key in place.split("."):
        found = found[int(key) if key.isdigit() else key]
    _assert_equal(restored(found), expected)  # as tensors in optimizers, since torch's load no arrays
    project.resume(run, "--set", "trainer.epochs=3")


@pytest.mark.parametrize("kind", NOT_PLAIN)
@pytest.mark.parametrize("place", PLACES)
def test_other_values_are_named_and_nothing_good_is_lost(plant, place, kind):
    code, err, _, checkpoints = plant(place, NOT_PLAIN[kind])
    assert code == 1 and "Traceback" not in err
    assert f"could not be saved: {place}" in err and "The checkpoints before it are good." in err
    assert checkpoints["last.pth"]["step"] == 0


@pytest.mark.parametrize("kind", [*PLAIN, *NOT_PLAIN])
@pytest.mark.parametrize("place", ["metric", "values"])
def test_what_a_metric_keeps_and_an_epoch_adds_leaves_checkpoints_that_can_be_read(plant, place, kind):
    """An attribute of a metric that does not fit is left out; a value of an epoch is a number, or named."""
    code, err, _, checkpoints = plant(place, (PLAIN | {name: [value] for name, value in NOT_PLAIN.items()})[kind][0])
    assert "Traceback" not in err and checkpoints["last.pth"]["step"] == (6 if code == 0 else 3)
    assert code == 0 or "error: Planting.on_epoch_end: 'note' is " in err
    assert place == "values" or code == 0
    assert code == 1 or place == "metric" or kind in NUMBERS


def _assert_equal(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype and np.array_equal(found, expected)
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected)
    else:
        assert found == expected


def test_a_state_of_plain_values_is_the_same_object_again():
    state = {"a": [1, (2.5, None)], "b": torch.ones(2), "c": {"d": "text"}}
    assert restored(state) is state
    assert_same(plain(state), state)
    with pytest.raises(NotPlain, match=r"^model.a.1.b: holds a pathlib.PosixPath, which could not be read again"):
        plain({"a": [0, {"b": pathlib.PosixPath("x")}]}, "model")
    with pytest.raises(NotPlain, match="a nesting that is too deep"):
        deep = []
        for _ in range(10_000):
            deep = [deep]
        plain(deep)


@pytest.mark.parametrize("written", [NOT_PLAIN["path"], [os.getcwd], {pathlib.Path("a"): 1}, "other bytes"], ids=str)
def test_what_cannot_be_read_back_replaces_nothing(tmp_path, monkeypatch, written):
    """A disk that changes what was written, or a torch that writes what nobody may read."""
    save_checkpoint(tmp_path, {"epoch": 1}, ["last.pth"])
    real = torch.save

    def damaged(state, file):
        real({"epoch": written} if written != "other bytes" else state, file)
        file._file.write(b"more") if written == "other bytes" else None

    monkeypatch.setattr(torch, "save", damaged)
    with pytest.raises(OSError, match=r"what was written cannot be read back \(.+\)"):
        save_checkpoint(tmp_path, {"epoch": 2}, ["checkpoint-epoch2.pth", "last.pth"])
    assert [path.name for path in tmp_path.iterdir()] == ["last.pth"]
    assert load_checkpoint(tmp_path / "last.pth")["epoch"] == 1
