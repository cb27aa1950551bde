"""What the template chooses by itself trains to the same weights as torch's plain way."""

import inspect
from copy import deepcopy

import pytest
import torch
from conftest import load, metrics_of
from torch import nn, optim

import model.model
from model.model import LeNet
from utils.modules.auto_tuning import fused_if_possible, in_memory_format, with_safe_kernels

STEPS = 6
OPTIMIZERS = {
    "SGD": [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"momentum": 0.9, "dampening": 0.3}],
    "Adam": [{}, {"amsgrad": True, "weight_decay": 0.1}],
    "AdamW": [{}, {"maximize": True}],
    "Adagrad": [{}, {"lr_decay": 0.1}],
    **{name: [{}] for name in ("Adadelta", "Adafactor", "Adamax", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop")},
}
SCENARIOS = ("plain", "late", "missing", "skipped", "skipped_first", "strides", "groups", "sparse")


def test_all_optimizers_of_torch_are_tried():
    known = {
        name for name, found in vars(optim).items() if inspect.isclass(found) and issubclass(found, optim.Optimizer)
    }
    others = {"Optimizer", "LBFGS", "Muon", "SparseAdam"}  # their own steps have no fused kernel, and other arguments
    assert known == set(OPTIMIZERS) | others
    network = nn.Linear(2, 2)
    assert not any(fused_if_possible(getattr(optim, name), (), network) for name in others)


def _sparse(gradient):
    with torch.sparse.check_sparse_tensor_invariants():
        return gradient.to_sparse(1)


def _weights_after(optimizer_class, args, scenario, dtype, is_plain):
    torch.manual_seed(0)
    network = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1)]).to(dtype)
    network[1].weight = nn.Parameter(network[1].weight.detach().t().contiguous().t())  # as channels_last lies
    chosen = {} if is_plain else fused_if_possible(optimizer_class, args, network)
    groups = [{"params": list(network[:2].parameters())}, {"params": list(network[2].parameters()), "lr": 0.003}]
    params = groups if scenario == "groups" else network.parameters()
    optimizer = optimizer_class(params, **{"lr": 0.01} | args | chosen)
    if is_plain:
        for group in optimizer.param_groups:
            group["fused"], group["foreach"] = False, False
    else:
        with_safe_kernels(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, enabled=scenario.startswith("skipped"))
    for step in range(STEPS):
        optimizer.zero_grad()
        hidden = network[0](torch.randn(8, 4, dtype=dtype))
        if scenario != "missing" and not (scenario == "late" and step < 2):
            hidden = hidden.tanh() + network[1](hidden)
        is_infinite = step == {"skipped": 3, "skipped_first": 0}.get(scenario)
        scaler.scale(network[2](hidden).square().mean() * (float("inf") if is_infinite else 1)).backward()
        for weight in network.parameters() if scenario == "strides" else ():
            weight.grad = weight.grad.clone(memory_format=torch.contiguous_format)
        if scenario == "sparse" and step == 3:
            network[0].weight.grad = _sparse(network[0].weight.grad)
        scaler.step(optimizer)
        scaler.update()
    return torch.cat([weight.detach().flatten() for weight in network.parameters()])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_chosen_kernels_train_to_the_plain_weights(name, scenario, dtype):
    takes_sparse = name in ("SGD", "Adagrad")
    for args in OPTIMIZERS[name]:
        if scenario == "sparse" and (not takes_sparse or args.get("nesterov") or dtype is torch.bfloat16):
            continue
        chosen, plain = (_weights_after(getattr(optim, name), args, scenario, dtype, is_plain) for is_plain in (0, 1))
        assert torch.isfinite(plain).all()
        tolerance = 1e-5 if dtype is torch.float32 else 1e-12
        torch.testing.assert_close(chosen, plain, rtol=tolerance, atol=tolerance)


class StochasticDepth(nn.Module):
    """Leaves a layer out now and then, and has a head for each of two kinds of batches."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(4))
        self.heads = nn.ModuleList(nn.Linear(64, num_classes) for _ in range(2))

    def forward(self, images):
        hidden = images.flatten(1)
        for layer in self.layers:
            if not self.training or torch.rand(()) < 0.5:
                hidden = hidden + torch.tanh(layer(hidden))
        return self.heads[int(hidden[0, 0] > 0)](hidden).log_softmax(dim=1)


@pytest.mark.parametrize("args", [{"momentum": 0.9}, {"momentum": 0.9, "fused": True}])
def test_late_gradients_in_a_run(project, write_into, args):
    write_into(model.model, StochasticDepth)
    sections = {"model": {"type": "StochasticDepth", "args": {"num_classes": 10}}, "trainer": {"epochs": 1}}
    chosen, plain = (
        project.train(optimizer={"type": "SGD", "args": {"lr": 0.01} | own}, **deepcopy(sections))
        for own in (args, args | {"fused": False})
    )
    assert metrics_of(chosen)[0]["loss"] == pytest.approx(metrics_of(plain)[0]["loss"], rel=1e-5)
    for name, weight in load(plain / "last.pth")["model"].items():
        torch.testing.assert_close(load(chosen / "last.pth")["model"][name], weight, rtol=1e-4, atol=1e-5)


class LateView(nn.Module):
    """Uses `view` behind a convolution, but not in its first steps."""

    steps = 0

    def __init__(self, num_classes: int):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
        self.head = nn.Linear(64, num_classes)

    def forward(self, images):
        self.steps += self.training
        features = self.conv2(self.conv1(images))
        features = features.view(len(images), -1) if self.steps > 12 else features.flatten(1)
        return self.head(features).log_softmax(dim=1)


def test_no_channels_last_where_code_of_the_model_asks_for_the_order_in_memory(project):
    """A trial at the start cannot know what a later step does."""
    batches = project.trainer().run.batches
    for network, is_last in ((LateView(10), False), (LeNet(10), True)):
        weight = in_memory_format(network, None, batches, optim.Adam).conv2.weight
        assert weight.is_contiguous(memory_format=torch.channels_last) is is_last
