"""Gradients of processes with unequal parts of a batch, compared with those of the whole batch: relative errors."""

import copy
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch import nn
from torch.nn import functional as F

from base.exact_loss import ExactLoss
from utils.distributed import exact_gradients
from utils.distributed.devices import select_devices
from utils.distributed.parallel import ddp, fsdp
from utils.distributed.processes import connected, is_first, rank, world_size
from utils.distributed.shards import whole

IGNORED = -100


def batch(samples):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(samples, 4, generator=generator)
    targets = torch.randint(0, 3, (samples,), generator=generator)
    targets[:2] = IGNORED
    return inputs, targets


def mean_over_samples(module, forward, inputs, targets):
    return F.mse_loss(forward(inputs).sum(dim=1), targets.float())


def with_penalty(module, forward, inputs, targets):
    """On outputs, and on parameters directly."""
    penalty = sum(whole(parameter).square().sum() for parameter in module.parameters())
    return mean_over_samples(module, forward, inputs, targets) + 0.1 * penalty


def mean_over_labels(module, forward, inputs, targets):
    return LOSS(forward(inputs), targets)


def two_losses(module, forward, inputs, targets):
    """One of them a mean over labels, the other over samples; and a module called twice."""
    return mean_over_labels(module, forward, inputs, targets) + mean_over_samples(module, forward, inputs, targets)


LOSS = ExactLoss(nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]), ignore_index=IGNORED))
LOSSES = [mean_over_samples, with_penalty, mean_over_labels, two_losses]


def apart(parallel, loss, samples):
    torch.manual_seed(0)
    by_hand = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    devices = select_devices(0, "cpu", parallel)
    module = devices.share(copy.deepcopy(by_hand))
    forward = devices.wrap(module)
    inputs, targets = batch(samples)
    own = inputs[rank() :: world_size()], targets[rank() :: world_size()]
    exact_gradients.set_weight(world_size() * len(own[0]) / samples)
    loss(module, forward, *own).backward()
    found = [whole(parameter.grad) for parameter in module.parameters()]
    LOSS.weighs_gradients = False
    loss(by_hand, by_hand, inputs, targets).backward()
    LOSS.weighs_gradients = True
    expected = [parameter.grad for parameter in by_hand.parameters()]
    pairs = zip(found, expected, strict=True)
    return max(((one - other).abs().max() / other.abs().max()).item() for one, other in pairs)


def main():
    with connected():
        report = {
            f"{name}, {loss.__name__}, {samples} samples": apart(parallel, loss, samples)
            for name, parallel in (("ddp", ddp()), ("fsdp", fsdp(modules="Linear")))
            for loss in LOSSES
            for samples in (7, 8)
        }
    if is_first():
        print(json.dumps(report))


if __name__ == "__main__":
    main()
