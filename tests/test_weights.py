"""Where a model's weights start: `model.init`, and `model.weights` by the names that torchvision has for them."""

import hashlib
import logging
import os
import re
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import torch
from conftest import assert_same, refusal, state_of
from torch import nn
from torchvision.models import (
    DenseNet121_Weights,
    GoogLeNet_Weights,
    ResNet18_Weights,
    densenet121,
    googlenet,
    resnet18,
)

from model.model import LeNet
from utils.errors import ConfigError
from utils.modules.weights import initialize, load_starting_weights

DEFAULT = "ResNet18_Weights.IMAGENET1K_V1"


@pytest.fixture
def info(caplog):
    caplog.set_level(logging.INFO)
    return caplog


# ---- initialize ----


def test_weights_of_two_dimensions_are_filled_and_told_in_postorder(info):
    model = nn.Sequential(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)), nn.Linear(2, 4), nn.Embedding(3, 2))
    biases = state_of(model)
    initialize(model, partial(nn.init.constant_, val=3.0))
    assert all((weight == 3).all() for weight in (model[0][0].weight, model[1].weight, model[2].weight))
    for name in ("0.0.bias", "0.1.weight", "0.1.bias", "1.bias"):
        assert torch.equal(model.state_dict()[name], biases[name])
    assert info.messages == [
        "model.init: 0.0.weight (2, 1, 3, 3): constant_(val=3.0)",
        "model.init: 1.weight (4, 2): constant_(val=3.0)",
        "model.init: 2.weight (3, 2): constant_(val=3.0)",
    ]


def test_the_seed_decides():
    first, second = LeNet(10), LeNet(10)
    for model in (first, second):
        torch.manual_seed(1)
        initialize(model, partial(nn.init.kaiming_normal_, nonlinearity="relu"))
    assert torch.equal(first.fc1.weight, second.fc1.weight)
    assert first.fc1.weight.std().item() == pytest.approx((2 / first.fc1.in_features) ** 0.5, rel=0.05)


def test_a_shared_weight_is_filled_once(info):
    model = nn.ModuleDict({"words": nn.Embedding(5, 3), "head": nn.Linear(3, 5)})
    model["head"].weight = model["words"].weight
    calls = []
    initialize(model, calls.append)
    assert len(calls) == len(info.messages) == 1


def test_padding_stays_zero(info):
    model = nn.Embedding(5, 3, padding_idx=2)
    initialize(model, nn.init.ones_)
    assert model.weight.sum(dim=1).tolist() == [3, 3, 0, 3, 3]
    assert info.messages == ["model.init: weight (5, 3): ones_"]


def refuse(weight):
    raise ValueError("Not this one.\n  Nor others.")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (nn.init.eye_, "eye_ refuses {}: Only tensors with 2 dimensions are supported."),
        (nn.init.constant_, "constant_ refuses {}: constant_() missing 1 required positional argument: 'val'."),
        (partial(nn.init.normal_, std=-1.0), "normal_(std=-1.0) refuses {}: normal expects std >= 0.0, but found"),
        (partial(nn.init.trunc_normal_, std=0), "trunc_normal_(std=0) refuses {}: float division by zero."),
        (refuse, "refuse refuses {}: Not this one. Nor others."),
    ],
)
def test_a_function_that_refuses_names_the_module(function, message):
    expected = "model.init: " + message.format("conv1.weight (64, 3, 7, 7)")
    found = refusal(initialize, resnet18(), function)
    assert found.startswith(expected) and not found.endswith("..")


def test_a_function_that_would_touch_nothing_is_told():
    assert refusal(initialize, nn.BatchNorm2d(3), nn.init.ones_) == (
        "model.init: BatchNorm2d has no weight of two or more dimensions, so ones_ would change nothing. Leave it out."
    )


# ---- torchvision ----


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Where torch.hub keeps files: a folder that is not there yet."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Write the file of some weights, and make a URL of a closed port theirs, with the file's hash in it."""

    def write(weights, state, folder):
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(state, tmp_path / "new.pth")
        name = f"net-{hashlib.sha256((tmp_path / 'new.pth').read_bytes()).hexdigest()[:8]}.pth"
        monkeypatch.setattr(weights.value, "url", f"http://127.0.0.1:9/models/{name}")
        return (tmp_path / "new.pth").rename(folder / name)

    return write


@pytest.fixture
def served(tmp_path):
    """The URL of a folder that is served by this process, and the folder."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    folder = tmp_path / "served"
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("name", ["DEFAULT", "IMAGENET1K_V1", DEFAULT, "ResNet18_Weights.DEFAULT"])
def test_weights_have_a_name(hub, publish, info, name):
    state = resnet18().state_dict()
    publish(ResNet18_Weights.DEFAULT, state, hub)
    model = resnet18()
    load_starting_weights(model, name, builder=resnet18)
    assert_same(state_of(model), dict(state))
    assert info.messages[-1] == f"model.weights: started from {DEFAULT}"


def test_a_head_with_other_classes_is_refused_or_left_alone(hub, publish, caplog):
    state = resnet18().state_dict()
    publish(ResNet18_Weights.DEFAULT, state, hub)
    model = resnet18(num_classes=10)
    heads = "fc.weight (1000, 512) for (10, 512), fc.bias (1000,) for (10,)"
    assert refusal(load_starting_weights, model, "DEFAULT", builder=resnet18) == (
        f"model.weights: {DEFAULT}: its 'model' does not fit this config's: of another shape: {heads}. "
        '"strict": false in the model section loads what fits.'
    )
    head = state_of(model.fc)
    load_starting_weights(model, "DEFAULT", strict=False, builder=resnet18)
    assert_same(state_of(model), {name: head.get(name.removeprefix("fc."), value) for name, value in state.items()})
    assert f"{DEFAULT}: of another shape, the model keeps its initial values: {heads}." in caplog.messages


def test_without_a_network_one_message_says_what_to_put_where(hub, monkeypatch):
    """A closed port of this machine: a real connection, really refused."""
    url = "http://127.0.0.1:9/models/resnet18-f37072fd.pth"
    monkeypatch.setattr(ResNet18_Weights.DEFAULT.value, "url", url)
    path = hub / "resnet18-f37072fd.pth"
    message = refusal(load_starting_weights, resnet18(), "DEFAULT", builder=resnet18)
    assert message.startswith(f"model.weights: {DEFAULT} of resnet18 cannot be had (<urlopen error ")
    assert message.endswith(f"). Download resnet18-f37072fd.pth elsewhere, from {url}, and put it there: {path}")
    assert "\n" not in message and list(path.parent.iterdir()) == []


def test_a_fifo_in_its_place_is_one_message(hub):
    hub.mkdir(parents=True)
    os.mkfifo(hub / "resnet18-f37072fd.pth")
    with pytest.raises(ConfigError, match=r"resnet18-f37072fd.pth is not a regular file"):
        load_starting_weights(resnet18(), "DEFAULT", builder=resnet18)


def test_a_file_is_fetched_once(hub, publish, served, monkeypatch, info):
    url, folder = served
    state = resnet18().state_dict()
    file = publish(ResNet18_Weights.DEFAULT, state, folder)
    monkeypatch.setattr(ResNet18_Weights.DEFAULT.value, "url", f"{url}/{file.name}")
    for _ in range(2):
        model = resnet18()
        load_starting_weights(model, "DEFAULT", builder=resnet18)
        assert_same(state_of(model), dict(state))
        file.unlink(missing_ok=True)
    assert [line for line in info.messages if "Downloading" in line] == [
        f"Downloading {url}/{file.name} to {hub / file.name}"
    ]


def test_a_download_of_something_else_is_not_kept(hub, publish, served, monkeypatch):
    url, folder = served
    file = publish(ResNet18_Weights.DEFAULT, {}, folder)
    file.write_bytes(b"<html>Log in to this network</html>")
    monkeypatch.setattr(ResNet18_Weights.DEFAULT.value, "url", f"{url}/{file.name}")
    message = refusal(load_starting_weights, resnet18(), "DEFAULT", builder=resnet18)
    assert f"{DEFAULT} of resnet18 cannot be had (invalid hash value (expected " in message
    assert list(hub.iterdir()) == []


def test_a_damaged_file_is_told_and_left_where_it_is(hub, publish):
    file = publish(ResNet18_Weights.DEFAULT, resnet18().state_dict(), hub)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    found = hashlib.sha256(content).hexdigest()[:8]
    assert refusal(load_starting_weights, resnet18(), "DEFAULT", builder=resnet18) == (
        f"model.weights: {file}: damaged, or not {DEFAULT} of resnet18: its SHA-256 begins with {found}, not "
        f"{file.stem.partition('-')[2]}. Delete it to have it downloaded again."
    )
    assert file.exists()


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_a_file_that_brings_code_is_refused(hub, publish, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    publish(ResNet18_Weights.DEFAULT, Malicious(tmp_path / "marker"), hub)
    assert "not a readable checkpoint" in refusal(load_starting_weights, resnet18(), "DEFAULT", builder=resnet18)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("name", ["IMAGNET1K_V1", "ResNet18_Weights.IMAGENET1K_V9", "ResNet50_Weights.IMAGENET1K_V1"])
def test_an_unknown_name_is_told_with_the_closest(hub, name):
    assert refusal(load_starting_weights, resnet18(), name, where="here", builder=resnet18) == (
        f"here: resnet18 has no weights named {name!r}, and there is no such file: {name}. "
        "Closest match: IMAGENET1K_V1."
    )


def test_a_file_will_do_for_a_model_of_torchvision_too(tmp_path):
    state = resnet18().state_dict()
    torch.save(state, tmp_path / "weights.pth")
    model = resnet18()
    load_starting_weights(model, str(tmp_path / "weights.pth"), builder=resnet18)
    assert_same(state_of(model), dict(state))


def test_names_are_torchvisions_alone():
    message = refusal(load_starting_weights, LeNet(10), "DEFAULT")
    assert message.startswith("model.weights: DEFAULT: no such run directory or checkpoint. ")


def test_the_old_names_of_densenets_are_known(hub, publish):
    state = densenet121().state_dict()
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))(?=\d)", r"\1.", name): value for name, value in state.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    publish(DenseNet121_Weights.DEFAULT, old, hub)
    model = densenet121()
    load_starting_weights(model, "DEFAULT", builder=densenet121)
    assert_same(state_of(model), dict(state))


@pytest.mark.parametrize("transforms", [True, False])
def test_parts_that_the_model_has_switched_off_are_left_out(hub, publish, caplog, transforms):
    state = googlenet(init_weights=False).state_dict()
    publish(GoogLeNet_Weights.DEFAULT, state, hub)
    model = googlenet(init_weights=False, aux_logits=False, transform_input=transforms)
    load_starting_weights(model, "DEFAULT", builder=googlenet)
    assert_same(state_of(model), {name: value for name, value in state.items() if not name.startswith("aux")})
    warning = 'GoogLeNet_Weights.IMAGENET1K_V1 were trained with "transform_input": true. Write that in model.args, '
    assert [line.startswith(warning) for line in caplog.messages] == [True] * (not transforms)
