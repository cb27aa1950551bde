"""When the learning rate moves, and which mistakes show before the run."""

import pytest
from conftest import metrics_of


def rates_of(project, scheduler, epochs=4):
    trainer = {"epochs": epochs, "log_steps": 1}
    return [line["lr"] for line in metrics_of(project.train(lr_scheduler=scheduler, trainer=trainer))]


def test_once_each_epoch(project):
    rates = rates_of(project, {"type": "ExponentialLR", "args": {"gamma": 0.5}})
    assert rates == pytest.approx([0.001, 0.0005, 0.00025, 0.000125])


def test_once_each_step(project):
    rates = rates_of(project, {"type": "StepLR", "interval": "step", "args": {"step_size": 10, "gamma": 0.5}})
    assert rates == pytest.approx([0.001, 0.00025, 0.0000625, 0.000015625])  # 20 steps an epoch


def test_plateau_follows_the_monitored_value(project):
    """Nothing is better by 90 %: the rate falls after each epoch but the first. All is better by a little: it stays."""
    plateau = {"type": "ReduceLROnPlateau", "args": {"patience": 0, "threshold": 0.9, "factor": 0.1}}
    assert rates_of(project, plateau) == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5])
    plateau["args"]["threshold"] = 0.0
    assert rates_of(project, plateau) == [1e-3] * 4


@pytest.mark.parametrize(
    ("scheduler", "trainer", "message"),
    [
        (
            {"type": "ReduceLROnPlateau"},
            {"monitor": "max val_accuracy"},
            "lr_scheduler.args.mode: 'min', but trainer.monitor is 'max val_accuracy'. Write \"mode\": \"max\".",
        ),
        (
            {"type": "ReduceLROnPlateau"},
            {"monitor": "off", "early_stop": None},
            "lr_scheduler: ReduceLROnPlateau follows trainer.monitor, which is off. Name a value there.",
        ),
        (
            {"type": "ReduceLROnPlateau", "interval": "step"},
            {},
            "lr_scheduler.interval: ReduceLROnPlateau follows a value of each epoch. Choices: epoch.",
        ),
        (
            {"type": "ChainedScheduler", "args": {"schedulers": [{"type": "ReduceLROnPlateau"}]}},
            {},
            "lr_scheduler.args.schedulers.0: ReduceLROnPlateau cannot be chained: it must be told the monitored value.",
        ),
        (
            {"type": "OneCycleLR", "interval": "step", "args": {"max_lr": 0.1, "total_steps": 30}},
            {},
            "lr_scheduler.args: OneCycleLR ends after 30 steps, but the run steps it 40 times, once each step.",
        ),
        (
            {
                "type": "SequentialLR",
                "interval": "step",
                "args": {
                    "schedulers": [
                        {"type": "ConstantLR"},
                        {"type": "OneCycleLR", "args": {"max_lr": 0.1, "total_steps": 30}},
                    ],
                    "milestones": [5],
                },
            },
            {},
            "lr_scheduler.args: OneCycleLR ends after 30 steps, but the run steps it 35 times, once each step.",
        ),
    ],
)
def test_what_would_fail_in_the_middle_is_refused_at_the_start(project, scheduler, trainer, message):
    assert project.refused_config(lr_scheduler=scheduler, trainer=trainer) == f"error: {message}\n"


def test_a_cycle_that_ends_with_the_run_is_no_mistake_within_a_sequence_either(project):
    """40 steps: 5 of warm-up, 35 of the cycle. Nothing is tried that the run does not do."""
    cycle = {"type": "OneCycleLR", "args": {"max_lr": 0.01, "total_steps": 36}}
    section = {"schedulers": [{"type": "ConstantLR"}, cycle], "milestones": [5]}
    assert len(rates_of(project, {"type": "SequentialLR", "interval": "step", "args": section}, epochs=2)) == 2


def test_a_cosine_that_ends_at_zero_is_no_mistake(project):
    cosine = {"type": "CosineAnnealingLR", "interval": "step", "args": {"T_max": 7}}
    assert min(rates_of(project, cosine)) >= 0


def test_chained_schedulers(project):
    halves = {"type": "ExponentialLR", "args": {"gamma": 0.5}}
    rates = rates_of(project, {"type": "ChainedScheduler", "args": {"schedulers": [halves, halves]}}, epochs=2)
    assert rates == pytest.approx([1e-3, 0.25e-3])
