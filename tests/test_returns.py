"""What a person's code returns is checked where it is returned, and kinds of numbers are as good as each other."""

import json

import numpy as np
import pytest
import torch
from conftest import load, metrics_of

import model.metric
import train as train_script
import trainer.trainer
from base.base_trainer import StepResult
from logger.means import mean_over
from logger.writers import Writer, Writers

KINDS = {
    "float": float,
    "np": np.float32,
    "tensor": torch.tensor,
    "one_item": lambda value: torch.tensor([value]),
    "array": lambda value: np.array([value]),
    "gradient": lambda value: torch.tensor(value, requires_grad=True) * 1,
}


class Returning(trainer.trainer.Trainer):
    """Adds values to what a step and an epoch return."""

    of_train = of_valid = of_epoch = staticmethod(lambda self: {})
    count = staticmethod(lambda count: count)

    def train_step(self, batch):
        return self.more(super().train_step(batch), self.of_train)

    def valid_step(self, batch):
        return self.more(super().valid_step(batch), self.of_valid)

    def on_epoch_end(self, values):
        values.update(self.of_epoch(self))

    def more(self, result, of_phase):
        return StepResult(result.means | of_phase(self), self.count(result.count))


@pytest.fixture
def returning(project, write_into, monkeypatch):
    write_into(trainer.trainer, Returning)

    def run(*arguments, trainer=None, **attributes):
        for name, value in attributes.items():
            monkeypatch.setattr(Returning, name, staticmethod(value))
        config = project.write_config(trainer={"type": "Returning", "epochs": 2, **(trainer or {})})
        return project.command(train_script, "-c", config, *arguments)

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_all_kinds_everywhere(project, returning, kind):
    make = KINDS[kind]
    code, out, err = returning(
        of_train=lambda self: {"own": make(0.5), "over": mean_over(torch.tensor(2.0), make(3.0))},
        of_valid=lambda self: {"own": make(0.25)},
        of_epoch=lambda self: {"gap": make(1.5), "val_loss": make(7.0)},
        count=lambda count: make(float(count)),
        trainer={"monitor": "min gap", "tensorboard": True},
    )
    assert code == 0 and "Traceback" not in out + err, err
    (run,) = project.run_dirs()
    for line in metrics_of(run):
        assert (line["own"], line["val_own"], line["over"], line["gap"], line["val_loss"]) == (0.5, 0.25, 2.0, 1.5, 7.0)
    assert load(run / "model_best.pth")["monitor"]["best_values"]["gap"] == 1.5


@pytest.mark.parametrize(
    "name", ["epoch", "step", "lr", "lr_1", "seconds", "items_per_second", "data_wait_share", "", "a\nb", 3]
)
@pytest.mark.parametrize("place", ["of_train", "of_valid", "of_epoch"])
def test_names_of_the_run_are_refused_where_they_are_given(project, returning, place, name):
    code, out, err = returning(**{place: lambda self: {name: torch.tensor(0.5)}})
    method = {"of_train": "train_step", "of_valid": "valid_step", "of_epoch": "on_epoch_end"}[place]
    where = f"Returning.{method}"
    assert code == (1 if place == "of_epoch" else 2) and "Traceback" not in err
    assert f"{where}: {name!r} is" in err and ("a value of the run's own" in err or "no name of a value" in err)


def test_a_mean_of_training_is_not_named_as_one_of_the_validation(returning):
    code, _, err = returning(of_train=lambda self: {"val_loss": torch.tensor(0.5)})
    assert code == 2 and "'val_loss': names that begin with 'val_' are those of the validation." in err


@pytest.mark.parametrize("value", [None, torch.zeros(3), "0.5", np.zeros(2), 1j])
def test_what_is_no_number_is_named_before_the_run(project, returning, value):
    code, _, err = returning(of_valid=lambda self: {"own": value})
    assert code == 2 and project.run_dirs() == []
    assert err.startswith("error: StepResult: 'own' is ") and "Return a number: its mean over the batch." in err


def test_what_only_a_later_epoch_returns_is_a_message_too(project, returning):
    code, out, err = returning(of_valid=lambda self: {"own": "text"} if self.epoch == 2 else {})
    assert code == 1 and err == "error: StepResult: 'own' is a str. Return a number: its mean over the batch.\n"
    (run,) = project.run_dirs()
    state = load(run / "last.pth")
    assert state["epoch"] == 1 and state["epoch_so_far"]["trained"], "the training phase of epoch 2 is saved"


def test_a_monitored_value_that_some_epochs_lack(project, returning):
    """Every second epoch has it; patience counts those, and a schedule follows them."""
    config = {"monitor": "min val_slow", "epochs": 6, "early_stop": 2, "type": "Returning"}
    project.config["lr_scheduler"] = {"type": "ReduceLROnPlateau", "args": {"patience": 0, "factor": 0.5}}
    code, out, err = returning(
        of_valid=lambda self: {"slow": torch.tensor(float(self.epoch))} if self.epoch % 2 == 0 else {}, trainer=config
    )
    assert code == 0, err
    (run,) = project.run_dirs()
    assert "epoch 3 has no value named val_slow: it is not compared." in out
    assert [line["lr"] for line in metrics_of(run)] == [0.001] * 4 + [0.0005] * 2
    assert load(run / "last.pth")["epoch"] == 6 and load(run / "model_best.pth")["epoch"] == 2


class Kept:
    """Keeps outputs, as arrays, in a deque or a list; returns them in some form."""

    form = staticmethod(lambda values: values)

    def __init__(self):
        self.reset()

    def reset(self):
        self.outputs, self.arrays = [], []

    def update(self, output, target):
        self.outputs.append(output)
        self.arrays.append((output.argmax(1) == target).numpy())

    def compute(self):
        assert not any(output.requires_grad for output in self.outputs)
        return type(self).form(np.concatenate(self.arrays).mean())


@pytest.mark.parametrize(
    ("form", "names"),
    [
        (float, ["val_Kept"]),
        (np.float32, ["val_Kept"]),
        (lambda value: {"a": value, "b": [value, 1.0]}, ["val_Kept_a", "val_Kept_b_0", "val_Kept_b_1"]),
        (lambda value: np.array([value, 0.0]), ["val_Kept_0", "val_Kept_1"]),
    ],
)
def test_a_metric_may_keep_outputs_and_arrays_and_resumes_within_an_epoch(
    project, write_into, monkeypatch, form, names
):
    write_into(model.metric, Kept)
    monkeypatch.setattr(Kept, "form", staticmethod(form))
    settings = {"metrics": ["Kept"], "trainer": {"epochs": 1, "save_steps": 7, "monitor": f"max {names[0]}"}}
    whole = project.train(**settings)
    assert set(names) <= set(metrics_of(whole)[0])
    again = project.train(**settings)
    (again / "metrics.jsonl").unlink()
    for name in ("last.pth", "model_best.pth", "checkpoint-epoch1.pth", "checkpoint-step14.pth"):
        (again / name).unlink()
    project.resume(again)
    assert metrics_of(again) == metrics_of(whole)


@pytest.mark.parametrize("form", [lambda value: (value, value), lambda value: None, lambda value: np.zeros((2, 2, 2))])
def test_another_form_is_refused_before_the_run(project, write_into, monkeypatch, form):
    write_into(model.metric, Kept)
    monkeypatch.setattr(Kept, "form", staticmethod(form))
    message = project.refused_config(metrics=["Kept"])
    assert "metric 'Kept': compute() returns " in message and "of a curve, the area below it." in message


def test_metrics_with_any_name_are_monitored_and_drawn(project):
    names = ["macro F1", "top-1 (%)", "a["]
    run = project.train(
        metrics=[{"type": "accuracy", "name": name} for name in names],
        trainer={"epochs": 1, "monitor": "max val_macro F1", "tensorboard": True},
    )
    assert {f"val_{name}" for name in names} <= set(metrics_of(run)[0])
    assert load(run / "last.pth")["monitor"]["name"] == "val_macro F1"


class Failing(Writer):
    def __init__(self):
        self.written = []

    def picture(self, tag, picture, step):
        if tag == "bad":
            raise ValueError("cannot be drawn")
        self.written.append(tag)

    def epoch(self, values):
        self.written.append(json.dumps(values))


def test_one_picture_that_cannot_be_drawn_ends_no_writer(caplog):
    writer = Failing()
    writers = Writers(writer)
    for step in range(3):
        writers.picture("bad", torch.zeros(3, 2, 2), step)
    writers.picture("good", torch.zeros(3, 2, 2), 1)
    writers.epoch({"epoch": 1})
    assert writer.written == ["good", '{"epoch": 1}']
    assert [record.getMessage() for record in caplog.records] == [
        "Failing: picture bad is not written: ValueError: cannot be drawn"
    ]
