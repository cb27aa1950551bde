"""What a section becomes, sections in its arguments, and what `--set` means by the type of its place."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

import train as train_script
from utils.config.binding import Binder
from utils.config.places import Place, Places
from utils.errors import ConfigError


def bind(section, kind, places=None):
    binder = Binder(places or Places())
    component = binder.section("it", section, kind)
    if binder.mistakes:
        raise ConfigError(*binder.mistakes)
    return component


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


def test_an_annotation_that_cannot_be_read_spoils_no_other():
    """torch writes these for type checkers alone."""
    for name, args in {
        "MultiStepLR": {"milestones": ["1"]}, "CyclicLR": {"base_lr": 0.1, "max_lr": 1, "cycle_momentum": "false"},
    }.items():  # fmt: skip
        with pytest.raises(ConfigError, match=f"it.args.({'|'.join(args)})[.0]*: found "):
            bind({"type": name, "args": args}, "lr_scheduler")
    assert bind({"type": "ChainedScheduler", "args": {"schedulers": ["LinearLR"]}}, "lr_scheduler").args["schedulers"]


def test_a_default_says_what_no_annotation_says(write_into):
    import model.model as module

    class Net(nn.Module):
        def __init__(self, name="a", dims=(3, 4), act_layer=nn.ReLU):
            super().__init__()
            self.dims, self.act = dims, act_layer()

    write_into(module, Net)
    net = bind({"type": "Net", "args": {"dims": [1, 2], "act_layer": "GELU"}}, "model").build()
    assert net.dims == (1, 2) and type(net.act) is nn.GELU
    for args in ({"name": 3}, {"dims": "x"}, {"dims": 3}, {"act_layer": "Gelu"}):
        with pytest.raises(ConfigError):
            bind({"type": "Net", "args": args}, "model")


def test_a_factory_makes_new_objects_each_time(write_into):
    import model.model as module

    class Block(nn.Module):
        def __init__(self, inner: nn.Module):
            super().__init__()
            self.inner = inner

    class Net(nn.Module):
        def __init__(self, make: Callable[..., nn.Module]):
            super().__init__()
            self.a, self.b = make(), make()

    write_into(module, Block)
    write_into(module, Net)
    linear = {"type": "Linear", "args": {"in_features": 2, "out_features": 2}}
    net = bind({"type": "Net", "args": {"make": {"type": "Block", "args": {"inner": linear}}}}, "model").build()
    assert net.a.inner is not net.b.inner


def test_a_nested_section_has_no_keys_of_its_own():
    nested = {"type": "StepLR", "interval": "step", "args": {"step_size": 1}}
    with pytest.raises(ConfigError, match="it.args.schedulers.0.interval: unknown key. Closest match:|Choices:"):
        bind({"type": "ChainedScheduler", "args": {"schedulers": [nested]}}, "lr_scheduler")


def test_an_argument_beside_args_is_told_where_it_belongs():
    with pytest.raises(ConfigError) as error:
        bind({"type": "Adam", "lr": 0.1}, "optimizer")
    assert str(error.value) == 'it.lr: unknown key. It is an argument of Adam: write it in "args".'


def test_a_misspelt_required_argument_is_one_mistake():
    with pytest.raises(ConfigError) as error:
        bind({"type": "LeNet", "args": {"num_clases": 10}}, "model")
    assert str(error.value) == "it.args.num_clases: LeNet takes no such argument. Closest match: num_classes."


def test_a_function_of_the_project_that_returns_a_model_is_one(write_into, monkeypatch):
    import model.model as module

    def tiny(width: int = 4) -> nn.Module:
        return module.LeNet(10, channels=(width, width))

    tiny.__module__ = module.__name__
    monkeypatch.setattr(module, "tiny", tiny, raising=False)
    assert bind({"type": "tiny", "args": {"width": 3}}, "model").build().conv1.out_channels == 3
    with pytest.raises(ConfigError, match="it.args.width: found '3'"):
        bind({"type": "tiny", "args": {"width": "3"}}, "model")


def test_pretrained_weights_are_named_beside_the_arguments(project):
    model = {"type": "resnet18", "args": {"weights": "DEFAULT"}}
    assert 'model.args.weights: are fetched once, if they stand beside "args"' in project.refused_config(model=model)


def test_a_trainer_can_be_given_another_model(write_into):
    import trainer.trainer as module

    class Distilling(module.Trainer):
        def __init__(self, *, teacher: nn.Module, on_done: Callable[[], None] | None = None, **parts: Any):
            super().__init__(**parts)

    write_into(module, Distilling)
    section = {"type": "Distilling", "epochs": 1, "args": {"teacher": {"type": "LeNet", "args": {"num_classes": 3}}}}
    assert bind(section, "trainer").args["teacher"].build().fc2.out_features == 3


def test_a_trainer_can_be_given_another_optimizer(write_into):
    import trainer.trainer as module

    class Adversarial(module.Trainer):
        def __init__(self, *, other: Callable[..., Optimizer], third: type[Optimizer] | None = None, **parts: Any):
            super().__init__(**parts)

    write_into(module, Adversarial)
    section = {"type": "Adversarial", "epochs": 1, "args": {"other": {"type": "Adam", "args": {"betas": [0.5, 0.9]}}}}
    made = bind(section, "trainer").args["other"].build()(nn.Linear(2, 2).parameters(), lr=0.1)
    assert type(made) is torch.optim.Adam and made.defaults["betas"] == (0.5, 0.9) and made.defaults["lr"] == 0.1
    assert bind({**section, "args": {"other": "SGD", "third": "Adam"}}, "trainer").args["third"].target is type(made)
    with pytest.raises(ConfigError) as error:
        bind({**section, "args": {"other": {"type": "Adam", "args": {"beta": 1}}, "third": "Linear"}}, "trainer")
    assert str(error.value).splitlines()[0].startswith("it.args.other.args.beta: Adam takes no such argument.")
    assert str(error.value).splitlines()[1].startswith("it.args.third.type: no 'Linear' here.")


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


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("optimizer.args.lr=1_000", "--set optimizer.args.lr=1_000: optimizer.args.lr: found '1_000'. Write a number."),
        ("trainer.min_delta=[Infinity]", "trainer.min_delta: found '[Infinity]'. Write a number of at least 0."),
        ('optimizer.args={"lr":1,"lr":2}', "a key stands twice in one object."),
        ("optimzer.x=1", "--set optimzer.x=1: optimzer: unknown key. Closest match: optimizer."),
        ("metrics=" + "[" * 20_000, "metrics: found '[[["),
    ],
)
def test_what_is_typed_is_read_as_strictly_as_a_file(project, assignment, message):
    code, _, err = project.command(train_script, "-c", project.write_config(), "--set", assignment)
    assert code == 2 and message in err and "Traceback" not in err


def test_set_refuses_an_unknown_key_with_the_closest_match(project):
    message = project.refused_config("--set", "optimizer.args.lrr=1", "trainer.epoch=3")
    assert "optimizer.args.lrr: Adam takes no such argument. Closest match: lr." in message
    assert "trainer.epoch: unknown key. Closest match: epochs." in message


def test_set_of_another_type_starts_with_fresh_args(project):
    for change in ("optimizer.args.momentum=0.9", 'optimizer.args={"momentum":0.9}'):
        code, out, _ = project.command(
            train_script, "-c", project.write_config(), "--print-config", "--set", change, "optimizer.type=SGD"
        )
        assert code == 0
        assert json.loads(out)["optimizer"] == {"type": "SGD", "args": {"momentum": 0.9}, "groups": None}
