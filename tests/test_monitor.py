"""What counts as better, and when patience is over."""

import math

import pytest
from conftest import assert_same, load, metrics_of

import data_loader.datasets
from base.monitor import Monitor
from utils.errors import ConfigError


def follow(monitor, values):
    """Which of these values were the best so far, up to where patience was over."""
    best = []
    for value in values:
        best.append(monitor.update({monitor.name: value}))
        if monitor.is_patience_over:
            break
    return best


def test_a_tie_is_no_improvement():
    assert follow(Monitor("min loss"), [1.0, 1.0, 0.9]) == [True, False, True]
    assert follow(Monitor("max score"), [1.0, 1.0, 1.1]) == [True, False, True]


def test_an_improvement_must_exceed_min_delta():
    assert follow(Monitor("min loss", min_delta=0.1), [1.0, 0.95, 0.85]) == [True, False, True]


@pytest.mark.parametrize("patience", [1, 3])
def test_patience_is_exact(patience):
    """The best epoch, then exactly `patience` bad ones."""
    assert len(follow(Monitor("min loss", early_stop=patience), [1.0] * 20)) == 1 + patience


def test_an_improvement_restores_patience():
    values = [1.0, 1.0, 0.5, 0.5, 0.5, 0.5]
    assert len(follow(Monitor("min loss", early_stop=2), values)) == 5


@pytest.mark.parametrize("rule", ["min loss", "max loss"])
def test_nan_is_never_the_best(rule, caplog):
    monitor = Monitor(rule, early_stop=2)
    assert follow(monitor, [math.nan, 1.0, math.nan, math.nan, 1.0]) == [False, True, False, False]
    assert "loss is nan, which is never the best." in caplog.text
    assert monitor.best == 1.0


def test_off_follows_nothing():
    assert follow(Monitor("off"), [1.0, 2.0]) == [False, False]


@pytest.mark.parametrize("rule", ["", "min", "loss", "minimum loss"])
def test_a_rule_that_is_none_is_refused(rule):
    with pytest.raises(ConfigError) as error:
        Monitor(rule)
    assert str(error.value) == f"trainer.monitor: {rule!r} is no rule. Choices: 'min NAME', 'max NAME', 'off'."


CONSTANT = [{"type": "top_k_accuracy", "args": {"k": 10}, "name": "constant"}]


def test_a_run_stops_after_exactly_its_patience_and_saves_its_last_epoch(project):
    run = project.train(
        metrics=CONSTANT, trainer={"epochs": 20, "monitor": "max val_constant", "early_stop": 3, "save_period": 100}
    )
    assert [line["epoch"] for line in metrics_of(run)] == [1, 2, 3, 4]
    assert load(run / "last.pth")["epoch"] == 4
    assert load(run / "model_best.pth")["epoch"] == 1


@pytest.mark.parametrize("name", ["val_loss", "val_accuracy", "loss", "accuracy", "grad_norm"])
def test_every_value_of_an_epoch_can_be_followed(project, name):
    run = project.train(trainer={"epochs": 1, "monitor": f"min {name}"})
    assert load(run / "model_best.pth")["monitor"]["best"] == metrics_of(run)[0][name]


def test_following_a_training_value_changes_nothing(project):
    """To know its names, a step is made before training, and undone."""
    one, other = (
        project.train(trainer={"monitor": monitor, "epoch_steps": 7}) for monitor in ("min val_loss", "min loss")
    )
    assert metrics_of(one) == metrics_of(other)


def test_the_check_before_training_leaves_no_trace(project):
    import torch

    from base.build import build_trainer
    from base.checks.preflight import check_before_training
    from utils.config.loading import load_config
    from utils.config.plan import make_plan
    from utils.distributed.devices import Devices

    config = load_config(project.write_config(trainer={"monitor": "min loss"}))
    trainer = build_trainer(make_plan(config), Devices(), ["train", "valid"])
    before = trainer.state_dict()
    weights = {name: weight.clone() for name, weight in before.pop("model").items()}
    check_before_training(trainer)
    after = trainer.state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in after.pop("model").items())
    assert_same(before, after)


@pytest.mark.parametrize(("name", "match"), [("val_los", "val_loss"), ("val_acuracy", "val_accuracy"), ("lss", "loss")])
def test_a_metric_that_does_not_exist_is_an_error_before_training(project, name, match):
    message = project.refused_config(trainer={"monitor": f"min {name}"})
    assert message == f"error: trainer.monitor: no value is named {name!r}. Closest match: {match}.\n"


def test_validation_that_is_not_there_cannot_be_followed(project, write_into):
    class Unvalidated(data_loader.datasets.Digits):
        def __len__(self):
            return 0 if self.split == "valid" else super().__len__()

    write_into(data_loader.datasets, Unvalidated)
    message = project.refused_config(dataset="Unvalidated")
    assert "trainer.monitor: no value is named 'val_loss'. There is no validation set. Closest match: loss." in message
    run = project.train(dataset="Unvalidated", trainer={"monitor": "min loss"})
    assert not any(name.startswith("val_") for name in metrics_of(run)[0])


def test_early_stop_without_a_monitor_is_refused(project):
    message = project.refused_config(trainer={"monitor": "off", "early_stop": 3})
    assert message == "error: trainer.early_stop: needs a value to follow, but trainer.monitor is off.\n"


def test_off_saves_no_best(project):
    run = project.train(trainer={"monitor": "off", "early_stop": None})
    assert not (run / "model_best.pth").exists() and (run / "last.pth").exists()
    project.test("-r", run)


@pytest.mark.parametrize(("rule", "value"), [("min loss", float("-inf")), ("max loss", float("inf"))])
def test_nor_is_what_is_infinite(rule, value):
    monitor = Monitor(rule)
    assert [monitor.update({"loss": loss}) for loss in (value, 1.0, value)] == [False, True, False]
    assert monitor.best == 1.0
