"""The same linear regression twice: with the backward pass and the optimizer by hand, and with torch's own.

python -m examples.from_scratch.by_hand
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from examples.from_scratch.data import NEIGHBOURS, MiddlePixels
from examples.from_scratch.model import HandLinear, mean_squared_error
from examples.from_scratch.optimizer import GradientDescent

STEPS, RATE, MOMENTUM = 400, 0.1, 0.9


def train(
    model: nn.Module, loss_fn: Callable[[Tensor, Tensor], Tensor], optimizer: Optimizer, steps: int = STEPS
) -> nn.Module:
    """The four steps, again and again, on the whole training set."""
    samples = MiddlePixels("train")
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_fn(model(samples.neighbours), samples.pixels)
        loss.backward()
        optimizer.step()
    return model


def by_hand() -> nn.Module:
    model = HandLinear(len(NEIGHBOURS))
    return train(model, mean_squared_error, GradientDescent(model.parameters(), RATE, MOMENTUM))


def by_torch() -> nn.Module:
    model = nn.Linear(len(NEIGHBOURS), 1)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return train(model, F.mse_loss, torch.optim.SGD(model.parameters(), RATE, MOMENTUM))


def weights_of(model: nn.Module) -> list[float]:
    """Those of the neighbours, and the bias."""
    return torch.cat([parameter.flatten() for parameter in model.parameters()]).tolist()


def main() -> None:
    columns = [weights_of(model) for model in (by_hand(), by_torch())]
    print(f"{'weight of':12}  by hand  by torch")
    for name, *values in zip([*NEIGHBOURS, "bias"], *columns, strict=True):
        print(f"{name:12}  {values[0]:7.3f}  {values[1]:8.3f}")
    print(f"largest difference: {max(abs(a - b) for a, b in zip(*columns, strict=True)):.0e}")


if __name__ == "__main__":
    main()
