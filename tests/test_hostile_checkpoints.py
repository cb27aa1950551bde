"""Sealed checkpoints whose values were made to harm: too large, of another kind, or with names of their own."""

import pytest
import torch
from conftest import load

import test as test_script
import train as train_script
from utils.checkpoints.checksum import write_sealed
from utils.files import write_under_names


def save_checkpoint(folder, state, names):
    """Sealed, but without a look at what it holds: as a stranger would."""
    paths = [folder / name for name in names]
    write_under_names(paths, lambda file: write_sealed(file, lambda sink: torch.save(state, sink)))


@pytest.fixture
def crafted(project):
    """A checkpoint of a run within an epoch, changed, in that run's directory."""

    def craft(change, metrics=("accuracy",)):
        run = project.train(metrics=list(metrics), trainer={"save_steps": 7, "keep_last": None})
        checkpoint = load(run / "checkpoint-step7.pth")
        change(checkpoint)
        save_checkpoint(run, checkpoint, ["crafted.pth"])
        return run / "crafted.pth"

    return craft


def huge_view(checkpoint):
    checkpoint["optimizer"]["state"][0]["exp_avg"] = torch.zeros(1).expand(10**11)


def nested_lists(checkpoint):
    nested = ["x"]
    for _ in range(50):
        nested = [nested, nested]
    checkpoint["config"]["metrics"] = nested


@pytest.mark.parametrize("change", [huge_view, nested_lists])
def test_what_unpacks_to_more_than_it_is_is_refused(project, crafted, change):
    path = crafted(change)
    for script in (train_script, test_script):
        assert "it unpacks to more than it is" in project.refused("-r", path, script=script)


def other(key, value):
    def change(checkpoint):
        checkpoint[key] = value

    return change


CHANGES = {
    "config": other("config", 3),
    "epoch": other("epoch", "two"),
    "rng": other("rng", {"torch": 1}),
    "monitor": other("monitor", {"mode": 3}),
    "batches": other("batches", {}),
    "epoch_so_far": other("epoch_so_far", {"steps": 1}),
    "optimizer": other("optimizer", {"state": 1}),
}


@pytest.mark.parametrize("key", CHANGES)
def test_values_of_another_kind_are_one_message(project, crafted, key):
    message = project.refused("-r", crafted(CHANGES[key]))
    assert "crafted.pth: " in message and key in message


def test_a_metrics_state_reaches_nothing_but_what_the_metric_has(project, crafted):
    from model.metric import ConfusionMatrix

    def change(checkpoint):
        state = checkpoint["epoch_so_far"]["metrics"]["ConfusionMatrix"]
        state["plain"] |= {"__class__": 1, "__dict__": {}, "compute": "x", "extra": 1}
        state["inner"] = {"__class__": {"plain": {"compute": "x"}, "inner": {}, "moved": []}}

    before = dict(vars(ConfusionMatrix))
    path = crafted(change, metrics=[{"type": "ConfusionMatrix", "args": {"num_classes": 10}}])
    project.resume(path)
    assert dict(vars(ConfusionMatrix)) == before


def with_state(name, value):
    def change(checkpoint):
        checkpoint["optimizer"]["state"][3][name] = value

    return change


def of_another_parameter(checkpoint):
    checkpoint["optimizer"]["param_groups"][0]["params"][-1] = True  # which is 1


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (with_state("exp_avg", torch.zeros(3)), "exp_avg of a parameter of shape (8,) is (3,)"),
        (with_state("exp_avg_sq", 1.0), "exp_avg_sq of a parameter of shape (8,) is float"),
        (with_state("step", torch.zeros(2)), "step of a parameter of shape (8,) is (2,)"),
        (of_another_parameter, "exp_avg of a parameter of shape (10,) is (4,)"),
    ],
)
def test_a_state_that_a_fused_kernel_would_leave_is_refused(project, crafted, change, what):
    assert what in project.refused("-r", crafted(change))


def test_a_state_of_one_number_that_is_seen_as_many_is_copied(project, crafted):
    """The kernel writes one number after another, whatever the strides say."""
    path = crafted(with_state("exp_avg", torch.zeros(1).expand(8)))
    project.resume(path)
    assert load(path.parent / "last.pth")["optimizer"]["state"][3]["exp_avg"].stride() == (1,)
