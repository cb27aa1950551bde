"""Gradient descent by hand."""

from collections.abc import Iterable
from typing import Any

import torch
from torch.optim import Optimizer


class GradientDescent(Optimizer):
    """w -= lr * grad; with `momentum`, w -= lr * velocity, where velocity = momentum * velocity + grad.

    What is in `self.state` and `self.param_groups` is in `state_dict()`: `Optimizer` sees to that.
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.0):
        if lr < 0 or not 0 <= momentum < 1:
            raise ValueError(f"lr is {lr}, momentum {momentum}: they are at least 0, momentum below 1")
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if group["momentum"]:
                    state = self.state[weight]
                    if not state:
                        state["velocity"] = torch.zeros_like(weight)
                    state["velocity"].mul_(group["momentum"]).add_(weight.grad)
                    weight -= group["lr"] * state["velocity"]
                else:
                    weight -= group["lr"] * weight.grad
