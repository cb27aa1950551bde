"""Which parameters train and with which options: patterns of names, in `model.freeze` and `optimizer.groups`."""

import logging

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from utils.errors import ConfigError
from utils.modules.parameter_groups import freeze, parameter_groups


class Tagger(nn.Module):
    """An embedding, which the last layer shares, a norm between them, and a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.embedding = nn.Embedding(7, 4)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 7)
        self.head.weight = self.embedding.weight


def trainable(model):
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def names_of(model, group):
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [names[parameter] for parameter in group["params"]]


def mistakes_of(call, *arguments):
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    return list(caught.value.mistakes)


@pytest.fixture
def info(caplog):
    caplog.set_level(logging.INFO)
    return caplog


# ---- freeze ----


def test_what_matches_does_not_train_and_the_numbers_are_told(info):
    model = resnet18(num_classes=10)
    freeze(model, ["conv1.*", "bn1.*", "layer*"])
    assert trainable(model) == ["fc.weight", "fc.bias"]
    assert info.messages == ["model.freeze: 11,176,512 of 11,181,642 parameters do not train"]


def test_one_pattern_may_stand_alone_and_name_a_class():
    model = resnet18()
    freeze(model, "BatchNorm2d.weight")
    norms = [f"{path}.weight" for path, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert set(trainable(model)) == {name for name, _ in model.named_parameters()} - set(norms)


def test_upper_and_lower_case_differ():
    assert "no parameter matches 'batchnorm2d.*'" in mistakes_of(freeze, resnet18(), "batchnorm2d.*")[0]


@pytest.mark.parametrize("pattern", ["embedding.weight", "head.weight", "Embedding.*", "Linear.weight"])
def test_a_shared_parameter_has_the_names_of_all_its_places(pattern):
    model = Tagger()
    freeze(model, pattern)
    assert trainable(model) == ["scale", "norm.weight", "norm.bias", "head.bias"]


def test_a_parameter_of_the_model_itself_has_both_names():
    for pattern in ("scale", "Tagger.*"):
        model = Tagger()
        freeze(model, pattern)
        assert "scale" not in trainable(model) and len(trainable(model)) == 4


def test_a_module_in_two_places_has_the_names_of_both():
    layer = nn.Linear(2, 2)
    model = nn.ModuleDict({"first": layer, "second": nn.Sequential(layer), "third": nn.Linear(2, 2)})
    freeze(model, "second.*")
    assert trainable(model) == ["third.weight", "third.bias"]


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("layr1.*", "Closest match: layer1.*."),
        ("layer1.0.bn1.weigth", "Closest match: layer1.0.bn1.weight."),
        ("BatchNorm.weight", "Closest match: BatchNorm2d.weight."),
        ("zzz", "Choices: BatchNorm2d.*, BatchNorm2d.bias, BatchNorm2d.weight, Conv2d.*, Conv2d.weight, Linear.*, "),
    ],
)
def test_a_pattern_that_matches_nothing_is_told_with_what_would(pattern, hint):
    (mistake,) = mistakes_of(freeze, resnet18(), pattern)
    assert mistake.startswith(f"model.freeze: no parameter matches {pattern!r}. {hint}")


def test_every_such_pattern_is_told_and_nothing_is_frozen():
    model = Tagger()
    mistakes = mistakes_of(freeze, model, ["scale", "a.*", "b.*"])
    assert ["'a.*'" in mistakes[0], "'b.*'" in mistakes[1], len(mistakes)] == [True, True, 2]
    assert len(trainable(model)) == 5


@pytest.mark.parametrize("patterns", [3, ["scale", 3], [], None, {"a": 1}])
def test_something_else_than_patterns_is_told(patterns):
    (mistake,) = mistakes_of(freeze, Tagger(), patterns)
    assert mistake == f"model.freeze: found {patterns!r}. Write a pattern of parameters' names, or a list of them."


def test_freezing_everything_is_refused():
    model = Tagger()
    assert mistakes_of(freeze, model, "*") == ["model.freeze: '*' leaves nothing to train. Leave some parameters out."]
    assert len(trainable(model)) == 5
    model.scale.requires_grad_(False)
    assert "leaves nothing to train" in mistakes_of(freeze, model, ["embedding.*", "norm.*", "head.*"])[0]


# ---- groups ----


def test_without_groups_it_is_the_list_of_what_trains():
    model = Tagger()
    freeze(model, "norm.*")
    params = parameter_groups(model)
    assert [id(one) for one in params] == [id(one) for one in model.parameters() if one.requires_grad]
    assert parameter_groups(model, []) == params


def test_the_rest_comes_first_and_the_first_matching_group_wins(info):
    model = resnet18(num_classes=10)
    groups = [
        {"params": ["*.bias", "*Norm*.weight"], "weight_decay": 0.0},
        {"params": "fc.*", "lr": 0.5, "momentum": 0.9},
    ]
    rest, decayless, head = parameter_groups(model, groups)
    assert list(rest) == ["params"] and decayless["weight_decay"] == 0.0 and head["lr"] == 0.5
    assert names_of(model, head) == ["fc.weight"]
    names = [name for name, _ in model.named_parameters()]
    norms = [f"{path}.weight" for path, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    expected = [name for name in names if name.endswith(".bias") or name in norms]
    assert names_of(model, decayless) == expected
    assert names_of(model, rest) == [name for name in names if name not in [*expected, "fc.weight"]]
    assert info.messages == [
        "optimizer: in no group: 11,166,912 parameters",
        "optimizer.groups.0: 9,610 parameters, weight_decay 0.0",
        "optimizer.groups.1: 5,120 parameters, lr 0.5, momentum 0.9",
    ]
    assert groups[1]["params"] == "fc.*", "what the config says stays as it is"


def test_an_optimizer_takes_them_with_its_own_options_for_the_rest():
    model = Tagger()
    params = parameter_groups(model, [{"params": "LayerNorm.*", "lr": 0.0}])
    optimizer = torch.optim.SGD(params, lr=0.1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.0]
    before = [parameter.clone() for parameter in model.parameters()]
    sum(parameter.sum() for parameter in model.parameters()).backward()
    optimizer.step()
    moved = [not torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True)]
    assert moved == [True, True, False, False, True]


def test_every_parameter_is_in_one_group_though_it_is_shared():
    model = Tagger()
    groups = parameter_groups(model, [{"params": "head.*", "lr": 1.0}])
    assert [names_of(model, group) for group in groups] == [
        ["scale", "norm.weight", "norm.bias"],
        ["embedding.weight", "head.bias"],
    ]


def test_what_is_frozen_is_in_no_group_and_an_empty_group_is_left_out(info):
    model = Tagger()
    freeze(model, ["embedding.*", "norm.*"])
    info.clear()
    groups = parameter_groups(model, [{"params": "norm.*", "lr": 1.0}, {"params": "Linear.*", "lr": 2.0}])
    assert [names_of(model, group) for group in groups] == [["scale"], ["head.bias"]]
    assert [group.get("lr") for group in groups] == [None, 2.0]
    assert info.messages[1] == "optimizer.groups.0: 0 parameters, lr 1.0"


def test_a_rest_of_nothing_is_left_out():
    model = Tagger()
    (group,) = parameter_groups(model, [{"params": "*", "lr": 1.0}])
    assert len(group["params"]) == 5 and group["lr"] == 1.0


def test_mistakes_of_all_groups_are_told_at_once():
    groups = [
        {"params": ["*.bias", "nrm.*"], "lr": 1.0},
        {"params": ["norm.bias", "head.bias"], "lr": 2.0},
        {"lr": 3.0},
        "head.*",
    ]
    assert mistakes_of(parameter_groups, Tagger(), groups) == [
        "optimizer.groups.0.params: no parameter matches 'nrm.*'. Closest match: norm.*.",
        "optimizer.groups.1.params: earlier groups have all that ['norm.bias', 'head.bias'] matches. "
        "The first match wins.",
        "optimizer.groups.2.params: found None. Write a pattern of parameters' names, or a list of them.",
        "optimizer.groups.3: found 'head.*'. Write {\"params\": PATTERN, OPTION: VALUE, ...}.",
    ]


def test_a_group_of_frozen_and_taken_parameters_is_still_told():
    model = Tagger()
    freeze(model, "norm.weight")
    groups = [{"params": "norm.bias", "lr": 1.0}, {"params": "norm.*", "lr": 2.0}]
    (mistake,) = mistakes_of(parameter_groups, model, groups)
    assert mistake.startswith("optimizer.groups.1.params: earlier groups have all that 'norm.*' matches.")


def test_the_options_of_a_group_are_looked_at_as_those_of_the_optimizer(project):
    section = {"type": "SGD", "args": {"lr": 0.1}, "groups": [{"params": "*", "lr": -0.5}]}
    message = project.refused_config(optimizer=section)
    assert "optimizer.groups.0: SGD cannot be made: Invalid learning rate: -0.5." in message
