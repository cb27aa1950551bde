"""What a section becomes: arguments by their annotations, sections in arguments, and what `--set` means by its type."""

import enum
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Optional, Union

import pytest
import torch
from torch import nn

from utils.binding import Binder
from utils.errors import ConfigError
from utils.places import Place, Places
from utils.schemas import converted, described, fits, misfit, schema_of


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


def bind(section, kind, places=None):
    binder = Binder(places or Places())
    component = binder.section("it", section, kind)
    if binder.mistakes:
        raise ConfigError(*binder.mistakes)
    return component


# ---- annotations ----


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (int, [0, -3], [1.0, "1", True, None, [1]]),
        (float, [0, 1.5], ["1", False, None]),
        (bool, [True], [0, "true", None]),
        (str, ["", "a"], [1, None, ["a"]]),
        (int | None, [1, None], [1.5, "null"]),
        (Optional[str], ["a", None], [1]),  # noqa: UP045 - libraries write it so
        (Union[int, list[int]], [1, [1, 2]], ["1", [1.5], [None]]),  # noqa: UP007
        (list[str], [[], ["a"]], ["a", [1]]),
        (Sequence[float], [[1, 2.5]], [["a"], {"a": 1}]),
        (tuple[int, int], [[1, 2]], [[1], [1, 2, 3], [1, "2"], 1]),
        (tuple[int, ...], [[], [1, 2]], [["a"]]),
        (dict[str, int], [{}, {"a": 1}], [{"a": "b"}, [1]]),
        (Literal["a", 1], ["a", 1], ["b", True, 2]),
        (Colour, ["red"], ["RED", "green", 1]),
        (Path, ["a/b"], [1]),
        (torch.dtype, ["float32"], ["float33", 32]),
        (torch.Tensor | None, [[1.0, 2.0], None], [1.0, "a"]),
        (float | torch.Tensor, [0.1], ["0.1", [0.1]]),
        (Any, [1, "a", None, [], {}], []),
        ("a string", [1, "a"], []),
        (nn.Module, ["ReLU", {"type": "ReLU"}], [1, ["ReLU"], {}]),
    ],
    ids=str,
)
def test_what_an_annotation_admits(annotation, good, bad):
    schema = schema_of(annotation)
    assert [value for value in good if not fits(schema, value)] == []
    assert [value for value in bad if fits(schema, value)] == []
    assert all(misfit(schema, value).startswith("found ") for value in bad)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int | None, "a whole number or null"),
        (tuple[int, float], "a list of 2: a whole number, a number"),
        (list[str] | str, "a list, each text or text"),
        (Literal["min", "max"], "min, max"),
        (Any, "anything"),
    ],
)
def test_it_is_said_in_words(annotation, words):
    assert described(schema_of(annotation)) == words


@pytest.mark.parametrize(
    ("annotation", "value", "result"),
    [
        (tuple[int, int], [1, 2], (1, 2)),
        (tuple[float, tuple[int, int]] | None, [1, [2, 3]], (1, (2, 3))),
        (list[tuple[int, int]], [[1, 2]], [(1, 2)]),
        (Colour | int, "red", Colour.RED),
        (torch.dtype, "bfloat16", torch.bfloat16),
        (torch.device, "cpu", torch.device("cpu")),
        (Path, "a", Path("a")),
        (Sequence[int], [1], [1]),
        (str, "red", "red"),
        (Any, [1], [1]),
    ],
)
def test_plain_values_become_what_the_annotation_says(annotation, value, result):
    assert converted(annotation, value) == result


# ---- sections in arguments: one rule ----


def test_the_activation_of_a_model_is_a_class_or_what_makes_one():
    def activation(value):
        return bind({"type": "LeNet", "args": {"num_classes": 2, "activation": value}}, "model").build().activation

    assert type(activation("GELU")) is nn.GELU
    leaky = activation({"type": "LeakyReLU", "args": {"negative_slope": 0.3}})
    assert type(leaky) is nn.LeakyReLU and leaky.negative_slope == 0.3
    with pytest.raises(ConfigError, match="it.args.activation.type: no 'Gelu' here. Closest match: GELU."):
        activation("Gelu")
    with pytest.raises(ConfigError, match="it.args.activation.args.slope: LeakyReLU takes no such argument."):
        activation({"type": "LeakyReLU", "args": {"slope": 0.3}})


def test_torchvisions_builders_take_what_their_models_take():
    with pytest.raises(ConfigError, match="it.args.norm_layer.args.num_group: GroupNorm takes no such argument."):
        bind({"type": "resnet18", "args": {"norm_layer": {"type": "GroupNorm", "args": {"num_group": 8}}}}, "model")
    component = bind({"type": "resnet18", "args": {"num_classes": 3, "norm_layer": "Identity"}}, "model")
    assert component.args["norm_layer"].is_factory and component.build().fc.out_features == 3
    bind({"type": "resnet18", "args": {"norm_layer": {"type": "GroupNorm", "args": {"num_groups": 8}}}}, "model")


def test_transforms_nest_and_take_names_and_dtypes():
    transform = bind(
        {
            "type": "Compose",
            "args": {
                "transforms": [
                    {"type": "ToDtype", "args": {"dtype": "float32", "scale": True}},
                    {"type": "RandomApply", "args": {"transforms": ["RandomFlip"], "p": 1.0}},
                    {"type": "Resize", "args": {"size": [4, 4], "interpolation": "nearest"}},
                ]
            },
        },
        "transform",
    ).build()
    assert transform(torch.full((1, 1, 8, 8), 255, dtype=torch.uint8)).equal(torch.ones(1, 1, 4, 4))


def test_sections_stand_in_objects_too_and_a_plain_object_stays_one(write_into):
    import model.model as module

    class Net(nn.Module):
        def __init__(self, blocks: dict[str, nn.Module], anything=None, plain: dict | None = None):
            super().__init__()
            self.blocks, self.anything, self.plain = nn.ModuleDict(blocks), anything, plain

    write_into(module, Net)
    plain = {"type": "ReLU", "args": {}}
    args = {"blocks": {"a": "ReLU", "b": {"type": "Linear", "args": {"in_features": 2, "out_features": 3}}}}
    net = bind({"type": "Net", "args": args | {"anything": {"x": ["y", plain]}, "plain": plain}}, "model").build()
    assert type(net.blocks["a"]) is nn.ReLU and net.blocks["b"].out_features == 3
    assert net.anything["x"][0] == "y" and type(net.anything["x"][1]) is nn.ReLU and net.plain == plain
    with pytest.raises(ConfigError, match="it.args.blocks.a: found 3. Write a section"):
        bind({"type": "Net", "args": {"blocks": {"a": 3}}}, "model")


def test_a_secret_is_not_shown(write_into):
    import trainer.trainer as module

    class Reporting(module.Trainer):
        def __init__(self, *, api_key: str, **parts: Any):
            super().__init__(**parts)

    write_into(module, Reporting)
    with pytest.raises(ConfigError) as error:
        bind({"type": "Reporting", "epochs": 1, "args": {"api_key": 31415}}, "trainer")
    assert str(error.value) == "it.args.api_key: found <redacted>. Write text."


def test_samplers_and_batch_samplers_nest(project):
    sampler = {"type": "WeightedRandomSampler", "args": {"weights": [1.0] * 1259, "num_samples": 64}}
    run = project.train(
        data_loader={"batch_size": 32, "sampler": sampler}, trainer={"epochs": 1}, metrics=[], lr_scheduler=None
    )
    assert json.loads((run / "metrics.jsonl").read_text())["step"] == 2


def test_a_loss_takes_a_tensor_as_a_list():
    loss = bind({"type": "CrossEntropyLoss", "args": {"weight": [1.0, 3.0]}}, "loss").build()
    assert loss.weight.tolist() == [1.0, 3.0]
    with pytest.raises(ConfigError, match="it.args.weight: found"):
        bind({"type": "CrossEntropyLoss", "args": {"weight": ["a"]}}, "loss")


def test_an_argument_without_annotation_follows_its_default(write_into):
    import model.model as module

    class Net(nn.Module):
        def __init__(self, hidden=8, name="a", flag=False, rate=0.1, anything=None):
            super().__init__()

    write_into(module, Net)
    bind({"type": "Net", "args": {"hidden": 3, "rate": 1, "flag": True, "anything": {"type": "ReLU"}}}, "model")
    for args, message in (
        ({"hidden": "8"}, "found '8'. Write a number or a list or null, without quotes."),
        ({"rate": "high"}, "found 'high'. Write a number or a list or null."),
        ({"flag": "yes"}, "found 'yes'. Write true or false or null."),
    ):
        with pytest.raises(ConfigError) as error:
            bind({"type": "Net", "args": args}, "model")
        assert str(error.value) == f"it.args.{next(iter(args))}: {message}"


def test_a_trainer_can_be_given_another_model(write_into):
    import trainer.trainer as module

    class Distilling(module.Trainer):
        def __init__(self, *, teacher: nn.Module, on_done: Callable[[], None] | None = None, **parts: Any):
            super().__init__(**parts)

    write_into(module, Distilling)
    section = {"type": "Distilling", "epochs": 1, "args": {"teacher": {"type": "LeNet", "args": {"num_classes": 3}}}}
    assert bind(section, "trainer").args["teacher"].build().fc2.out_features == 3


# ---- the type of what is typed ----


@pytest.mark.parametrize(
    ("text", "kind", "section", "value"),
    [("123", "metric", {"type": "accuracy", "name": 123}, "123"), ("null", "metric", {"type": "accuracy"}, None)],
)
def test_what_is_typed_for_a_text_is_text(text, kind, section, value):
    assert bind(section, kind, Places({"it.name": Place("--set", text)})).extras.name == value


@pytest.mark.parametrize("name", ["123", "1e5", "true"])
def test_a_run_can_be_named_as_one_types(project, name):
    run = project.train("--set", f"name={name}", trainer={"epochs": 1})
    assert run.parent.name == name and json.loads((run / "config.json").read_text())["name"] == name
    project.resume(run, "--set", "trainer.epochs=2")


def test_set_refuses_an_unknown_key_with_the_closest_match(project):
    message = project.refused_config("--set", "optimizer.args.lrr=1", "trainer.epoch=3")
    assert "optimizer.args.lrr: Adam takes no such argument. Closest match: lr." in message
    assert "trainer.epoch: unknown key. Closest match: epochs." in message


def test_set_of_another_type_starts_with_fresh_args(project):
    run = project.train("--set", "optimizer.args.momentum=0.9", "optimizer.type=SGD", trainer={"epochs": 1})
    assert json.loads((run / "config.json").read_text())["optimizer"] == {"type": "SGD", "args": {"momentum": 0.9}}
