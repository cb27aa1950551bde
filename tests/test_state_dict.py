"""Weights from files: what they may be wrapped in, and what is said of those that do not fit."""

import logging
from collections import OrderedDict

import pytest
import torch
from conftest import ROOT, assert_same, load, refusal, state_of
from torch import nn
from torchvision.models import mnasnet0_5

from model.model import LeNet
from utils.checkpoints.run_checkpoints import load_weights
from utils.modules.weights import load_starting_weights


@pytest.fixture
def info(caplog):
    caplog.set_level(logging.INFO)
    return caplog


def test_a_run_gives_its_best_checkpoint_and_a_checkpoint_itself(project, info):
    run = project.train(lr_scheduler={"type": "MultiStepLR", "args": {"milestones": [1], "gamma": 1000.0}})
    assert load(run / "model_best.pth")["epoch"] == 1
    for source, name in ((run, "model_best.pth"), (run / "last.pth", "last.pth")):
        model = LeNet(10, channels=(4, 8), hidden=16)
        load_starting_weights(model, str(source))
        assert_same(state_of(model), dict(load(run / name)["model"]))
        assert info.messages[-1] == f"model.weights: started from {source}"


@pytest.mark.parametrize("key", [None, "model", "state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."])
def test_a_state_dict_may_be_wrapped_and_its_names_too(tmp_path, key, prefix):
    state = {prefix + name: value for name, value in LeNet(10).state_dict().items()}
    torch.save({key: state, "epoch": 3} if key else state, tmp_path / "weights.pth")
    model = LeNet(10)
    load_starting_weights(model, str(tmp_path / "weights.pth"))
    assert_same(state_of(model), {name.removeprefix(prefix): value for name, value in state.items()})


@pytest.mark.parametrize(
    "make", [lambda: nn.ModuleDict({"module": nn.Linear(2, 2)}), lambda: nn.ParameterDict({"model": torch.rand(2)})]
)
def test_a_name_that_the_model_has_itself_is_no_wrapper(tmp_path, make):
    first, second = make(), make()
    torch.save(first.state_dict(), tmp_path / "weights.pth")
    load_starting_weights(second, str(tmp_path / "weights.pth"))
    assert_same(state_of(first), state_of(second))


def test_a_path_starts_at_the_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refusal(load_starting_weights, LeNet(10), "tests/x.pth").startswith(
        f"model.weights: {ROOT}/tests/x.pth: no such run directory or checkpoint. "
    )


def test_versions_that_modules_give_their_state_are_kept(tmp_path):
    """Without them, MNASNet refuses its own state_dict."""
    first, second = mnasnet0_5(), mnasnet0_5()
    torch.save(first.state_dict(), tmp_path / "weights.pth")
    for strict in (True, False):
        load_starting_weights(second, str(tmp_path / "weights.pth"), strict=strict)
        assert_same(state_of(first), state_of(second))


@pytest.mark.parametrize(
    ("content", "found"),
    [({"epoch": 3, "optimizer": {}}, "epoch, optimizer"), ({}, "nothing"), ({"model": {0: torch.ones(1)}}, "0")],
)
def test_a_file_without_weights_is_told(tmp_path, content, found):
    torch.save(content, tmp_path / "other.pth")
    assert refusal(load_starting_weights, LeNet(10), str(tmp_path / "other.pth"), where="model.weights").endswith(
        f"other.pth: holds no weights, but {found}. A state_dict is what can stand there, alone or under 'model' or "
        "'state_dict'."
    )


def changed(**changes):
    """A LeNet's state_dict: entries of None are left out."""
    state = OrderedDict(LeNet(10).state_dict()) | {name.replace("__", "."): value for name, value in changes.items()}
    return OrderedDict((name, value) for name, value in state.items() if value is not None)


DIFFERENT = changed(fc1__weight=torch.zeros(3, 5), fc2__bias=None, extra=torch.zeros(2), fc2__weight=7)
SHOWN = (
    "of another shape: fc1.weight (3, 5) for (64, 256), fc2.weight int for (10, 64); missing: fc2.bias (10,); "
    "unexpected: extra (2,)"
)


@pytest.mark.parametrize("call", [load_weights, load_starting_weights])
def test_what_does_not_fit_is_named_with_the_shapes_of_both_sides(tmp_path, call):
    torch.save(DIFFERENT, tmp_path / "weights.pth")
    where = "model.weights: " if call is load_starting_weights else ""
    assert refusal(call, LeNet(10), str(tmp_path / "weights.pth")) == (
        f"{where}{tmp_path}/weights.pth: its 'model' does not fit this config's: {SHOWN}. "
        '"strict": false in the model section loads what fits.'
    )


def test_of_many_differences_some_of_each_kind_are_named(tmp_path):
    torch.save({f"old.{i}": torch.zeros(1) for i in range(9)}, tmp_path / "weights.pth")
    message = refusal(load_starting_weights, LeNet(10), str(tmp_path / "weights.pth"))
    assert "missing: conv1.weight (32, 1, 3, 3), conv1.bias (32,), conv2.weight (64, 32, 3, 3) and 5 more; " in message
    assert "unexpected: old.0 (1,), old.1 (1,), old.2 (1,) and 6 more. " in message


@pytest.mark.parametrize("call", [load_weights, load_starting_weights])
def test_not_strict_what_fits_is_loaded_and_the_rest_is_named(tmp_path, caplog, call):
    torch.save(DIFFERENT, tmp_path / "weights.pth")
    model = LeNet(10)
    before = state_of(model)
    call(model, str(tmp_path / "weights.pth"), strict=False)
    kept = {name: before[name] for name in ("fc1.weight", "fc2.weight", "fc2.bias")}
    assert_same(state_of(model), {name: kept.get(name, DIFFERENT.get(name)) for name in before})
    source = f"{tmp_path}/weights.pth"
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"{source}: of another shape, the model keeps its initial values: fc1.weight (3, 5) for (64, 256), "
        "fc2.weight int for (10, 64).",
        f"{source}: missing, the model keeps its initial values: fc2.bias (10,).",
        f"{source}: unexpected, not used: extra (2,).",
    ]


def test_not_strict_something_must_fit(tmp_path):
    """A counter in a buffer is not enough."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    torch.save(nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)).state_dict(), tmp_path / "weights.pth")
    message = refusal(load_starting_weights, model, str(tmp_path / "weights.pth"), strict=False)
    assert "weights.pth: nothing in it fits this config's model: of another shape: 0.weight (3, 1, 3, 3) for" in message


@pytest.mark.parametrize("strict", [True, False])
def test_an_error_in_the_middle_leaves_nothing_loaded(tmp_path, strict):
    torch.save(changed(fc2__weight=torch.zeros(10, 64, device="meta")), tmp_path / "weights.pth")
    message = refusal(load_starting_weights, LeNet(10), str(tmp_path / "weights.pth"), strict=strict)
    assert "weights.pth: not a readable checkpoint (it calls torch._utils._rebuild_meta_tensor_no_storage)" in message


def test_versions_that_were_made_to_harm_are_one_message(tmp_path):
    state = changed()
    state._metadata = 3
    torch.save(state, tmp_path / "weights.pth")
    assert "its 'model' does not fit this config's: " in refusal(
        load_starting_weights, LeNet(10), str(tmp_path / "weights.pth")
    )


class Versioned(LeNet):
    """As torchvision's MNASNet: a version in the state_dict says what it is, and nothing else will load."""

    _version = 2

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest):
        assert local_metadata.get("version") == 2
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


def test_the_versions_of_modules_survive(project, write_into):
    import model.model

    write_into(model.model, Versioned)
    section = project.config["model"] | {"type": "Versioned"}
    run = project.train(model=section, trainer={"epochs": 1})
    project.resume(run, "--set", "trainer.epochs=2")
    project.test("-r", run)
