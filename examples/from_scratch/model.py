"""A linear layer and the mean squared error, with the backward pass of each written by hand."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function


class Linear(Function):
    """outputs = inputs weightᵀ + bias: (B, inputs), (outputs, inputs), (outputs,) to (B, outputs)."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return inputs @ weight.T + bias

    @staticmethod
    def backward(ctx: Any, grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From dL/doutputs, (B, outputs), those of the three arguments, each of its own shape."""
        inputs, weight = ctx.saved_tensors
        return grad_outputs @ weight, grad_outputs.T @ inputs, grad_outputs.sum(dim=0)


class MeanSquaredError(Function):
    """loss = mean of (outputs - targets)²: two tensors of one shape to a number."""

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, targets: Tensor) -> Tensor:
        residuals = outputs - targets
        ctx.save_for_backward(residuals)
        return residuals.square().mean()

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor, Tensor]:
        (residuals,) = ctx.saved_tensors
        grad_outputs = grad_loss * 2 * residuals / residuals.numel()
        return grad_outputs, -grad_outputs


class HandLinear(nn.Module):
    """What `nn.Linear` does, with the backward pass above. Starts at zero, where a linear regression may start."""

    def __init__(self, in_features: int, out_features: int = 1):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))

    def forward(self, inputs: Tensor) -> Tensor:
        return Linear.apply(inputs, self.weight, self.bias)


def mean_squared_error(output: Tensor, target: Tensor) -> Tensor:
    return MeanSquaredError.apply(output, target)
