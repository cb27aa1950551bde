"""A run that was stopped and resumed ends as the one that never stopped, to the last bit."""

import json

import pytest
import torch
from conftest import assert_same, load, metrics_of

import train as train_script
import trainer.trainer

EPOCHS, STEPS = 6, 20
SCHEDULERS = {
    "none": None,
    "StepLR": {"type": "StepLR", "args": {"step_size": 2, "gamma": 0.5}},
    "CosineAnnealingLR": {"type": "CosineAnnealingLR", "args": {"T_max": EPOCHS}},
    "OneCycleLR, each step": {
        "type": "OneCycleLR",
        "interval": "step",
        "args": {"max_lr": 0.01, "total_steps": EPOCHS * STEPS},
    },
    "ReduceLROnPlateau": {"type": "ReduceLROnPlateau", "args": {"patience": 0, "threshold": 0.5}},
    "warm-up, then cosine": {
        "type": "SequentialLR",
        "interval": "step",
        "args": {
            "schedulers": [
                {"type": "LinearLR", "args": {"start_factor": 0.1, "total_iters": 30}},
                {"type": "CosineAnnealingLR", "args": {"T_max": 90}},
            ],
            "milestones": [30],
        },
    },
}
AUGMENTED = {"type": "Digits", "args": {"train_transform": [{"type": "RandomShift", "args": {"padding": 1}}]}}


def assert_resumes_bitwise(project, stop_after=2, **sections):
    trainer = sections.pop("trainer", {})
    whole = project.train(**sections, trainer=trainer | {"epochs": EPOCHS})
    stopped = project.train(**sections, trainer=trainer | {"epochs": stop_after})
    assert len(metrics_of(stopped)) == stop_after
    project.resume(stopped, "--set", f"trainer.epochs={EPOCHS}")
    expected, found = load(whole / "last.pth"), load(stopped / "last.pth")
    assert_same(expected, found)
    assert_same(load(whole / "model_best.pth"), load(stopped / "model_best.pth"))
    assert metrics_of(whole) == metrics_of(stopped)
    assert [line["epoch"] for line in metrics_of(stopped)] == [*range(1, EPOCHS + 1)]
    return metrics_of(stopped)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_bitwise_with_every_kind_of_scheduler(project, scheduler):
    lines = assert_resumes_bitwise(project, dataset=AUGMENTED, lr_scheduler=SCHEDULERS[scheduler])
    rates = {line["lr"] for line in lines}
    assert (len(rates) > 1) == (scheduler != "none"), "the schedule must have moved, or nothing was tested"


@pytest.mark.parametrize("workers", [1, 2])
def test_bitwise_with_workers_and_random_augmentation(project, workers):
    loader = {"batch_size": 64, "num_workers": workers, "persistent_workers": True}
    assert_resumes_bitwise(project, dataset=AUGMENTED, data_loader=loader)


@pytest.mark.parametrize("steps", [7, 50])
def test_bitwise_with_epochs_counted_in_steps(project, steps):
    lines = assert_resumes_bitwise(project, stop_after=3, dataset=AUGMENTED, trainer={"epoch_steps": steps})
    assert [line["step"] for line in lines] == [steps * epoch for epoch in range(1, EPOCHS + 1)]


CONSTANT = [{"type": "top_k_accuracy", "args": {"k": 10}, "name": "constant"}]  # 1.0: never better than in epoch 1


def test_bitwise_where_an_epoch_in_steps_ends_with_a_pass_and_a_training_value_is_monitored(project):
    """To learn the names of training values, the check before training asks for a batch of what comes next."""
    assert_resumes_bitwise(project, trainer={"epoch_steps": STEPS, "monitor": "min loss"})


def test_patience_goes_on_counting(project):
    trainer = {"monitor": "max val_constant", "early_stop": 4}
    stopped = project.train(metrics=CONSTANT, trainer=trainer | {"epochs": 3})
    project.resume(stopped, "--set", "trainer.epochs=20")
    assert len(metrics_of(stopped)) == 5


def test_from_an_earlier_checkpoint_of_the_run(project):
    run = project.train(trainer={"epochs": 4})
    expected = metrics_of(run)
    assert "Going on after epoch 2" in project.resume(run / "checkpoint-epoch2.pth")
    assert metrics_of(run) == expected


class Killed(trainer.trainer.Trainer):
    """Ends in the first step after a start."""

    kills = False

    def train_step(self, batch):
        if self.kills and hasattr(self, "_checkpoints"):
            raise KeyboardInterrupt
        return super().train_step(batch)


def test_going_back_holds_from_the_first_step_on(project, write_into, monkeypatch):
    """Killed in its first step, a run that was sent back to epoch 2 goes on from there, not from what came later."""
    write_into(trainer.trainer, Killed)
    run = project.train(trainer={"type": "Killed", "epochs": 4})
    expected = metrics_of(run)
    monkeypatch.setattr(Killed, "kills", True)
    assert project.command(train_script, "-r", run / "checkpoint-epoch2.pth")[0] == 130
    monkeypatch.setattr(Killed, "kills", False)
    assert "Going on after epoch 2" in project.resume(run)
    assert metrics_of(run) == expected


def test_from_a_checkpoint_within_an_epoch_of_the_run(project):
    run = project.train(trainer={"epochs": 3, "save_steps": 15, "keep_last": None, "tensorboard": True})
    expected, last = metrics_of(run), load(run / "last.pth")
    assert "Going on after step 30, within epoch 2" in project.resume(run / "checkpoint-step30.pth")
    assert metrics_of(run) == expected
    assert_same(last, load(run / "last.pth"))


def test_going_back_into_an_epoch_drops_that_epoch(project, write_into, monkeypatch):
    write_into(trainer.trainer, Killed)
    run = project.train(trainer={"type": "Killed", "epochs": 3, "save_steps": 15, "keep_last": None})
    monkeypatch.setattr(Killed, "kills", True)
    assert project.command(train_script, "-r", run / "checkpoint-step30.pth")[0] == 130
    assert sorted(path.name for path in run.glob("checkpoint-*")) == [
        "checkpoint-epoch1.pth", "checkpoint-step15.pth", "checkpoint-step30.pth",
    ]  # fmt: skip
    assert [line["epoch"] for line in metrics_of(run)] == [1]


def test_a_half_written_line_of_metrics_is_dropped(project):
    run = project.train()
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 3, "lo')
    project.resume(run, "--set", "trainer.epochs=3")
    assert [line["epoch"] for line in metrics_of(run)] == [1, 2, 3]


def test_a_finished_run_says_so_and_can_be_extended(project):
    run = project.train()
    before = load(run / "last.pth")
    out = project.resume(run)
    assert "is finished: epoch 2 of 2. To go on: python train.py -r RUN --set trainer.epochs=N" in out
    assert "Best epoch:" in out and "val_accuracy" in out
    assert_same(before, load(run / "last.pth"))
    project.resume(run, "--set", "trainer.epochs=3")
    assert len(metrics_of(run)) == 3
    assert json.loads((run / "config.json").read_text())["trainer"]["epochs"] == 3


def test_a_run_that_stopped_early_says_so_and_can_be_extended(project):
    run = project.train(metrics=CONSTANT, trainer={"monitor": "max val_constant", "early_stop": 2, "epochs": 9})
    assert (
        "2 in a row without a better val_constant. To go on: python train.py -r RUN --set trainer.early_stop=N"
        in project.resume(run)
    )
    project.resume(run, "--set", "trainer.early_stop=4")
    assert len(metrics_of(run)) == 5


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["--lr", "0.05"], "optimizer.args.lr"),
        (["--bs", "32"], "data_loader.batch_size"),
        (["--set", "seed=1"], "seed"),
        (["--set", "model.args.hidden=8"], "model.args.hidden"),
        (["--set", "name=other"], "name"),
        (["--set", "metrics=[]"], "metrics"),
    ],
)
def test_options_that_cannot_take_effect_are_refused_by_name(project, arguments, key):
    run = project.train()
    before = (run / "config.json").read_bytes()
    assert f"error: {key}: cannot change when a run is resumed" in project.refused("-r", run, *arguments)
    assert (run / "config.json").read_bytes() == before


def test_a_config_edited_by_hand_takes_effect_or_is_refused(project):
    run = project.train()
    config = json.loads((run / "config.json").read_text())
    config["trainer"]["epochs"] = 3
    (run / "config.json").write_text(json.dumps(config))
    project.resume(run)
    assert len(metrics_of(run)) == 3
    config["optimizer"]["args"]["lr"] = 1.0
    (run / "config.json").write_text(json.dumps(config))
    assert "optimizer.args.lr: cannot change" in project.refused("-r", run)


def test_another_monitor_forgets_the_old_best(project):
    run = project.train()
    out = project.resume(run, "--set", "trainer.epochs=3", "trainer.monitor=max val_accuracy")
    assert "trainer.monitor: was 'min val_loss', is now 'max val_accuracy': the best value is forgotten." in out
    monitor = load(run / "last.pth")["monitor"]
    assert (monitor["mode"], monitor["best_values"]["epoch"]) == ("max", 3)


def test_a_plateau_cannot_follow_another_value_in_mid_run(project):
    run = project.train(lr_scheduler={"type": "ReduceLROnPlateau"})
    assert "trainer.monitor: cannot change when a run is resumed" in project.refused(
        "-r", run, "--set", "trainer.monitor=min val_accuracy"
    )


def test_init_from_takes_the_weights_and_nothing_else(project):
    first = project.train()
    started = project.train("--init-from", first / "last.pth", "--lr", "0.0", lr_scheduler=None)
    assert started != first
    one, other = load(first / "last.pth"), load(started / "last.pth")
    assert_same(one["model"], other["model"])
    assert [line["lr"] for line in metrics_of(started)] == [0.0, 0.0]


def test_weights_are_read_when_a_run_starts_and_not_when_it_goes_on_or_is_scored(project):
    source = project.folder / "source.pth"
    torch.save(load(project.train() / "last.pth")["model"], source)
    model = {"type": "LeNet", "args": {"num_classes": 10, "channels": [4, 8], "hidden": 16}, "weights": str(source)}
    run = project.train(model=model, trainer={"epochs": 1})
    source.unlink()
    project.resume(run, "--set", "trainer.epochs=2")
    assert project.test("-r", run)[0]["accuracy"] >= 0
    assert len(metrics_of(run)) == 2


def test_init_from_and_resume_exclude_each_other(project):
    assert "argument --init-from: not allowed with argument -r/--resume" in project.refused(
        "-r", "a", "--init-from", "b"
    )
    assert "only -r auto is allowed with -c" in project.refused("-r", "a", "-c", "b")


def test_weights_of_another_model_are_named(project):
    run = project.train()
    message = project.refused_config("--init-from", run / "last.pth", "--set", "model.args.hidden=8")
    assert "its 'model' does not fit this config's" in message and "fc1.weight" in message
