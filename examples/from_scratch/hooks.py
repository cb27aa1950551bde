"""Hooks: what goes into a module and comes out of it, forward and backward.

python -m examples.from_scratch.hooks
"""

from functools import partial
from typing import Any

import torch
from torch import nn


def shapes(tensors: Any) -> str:
    """The shape of each; a gradient that nobody needs is None."""
    return ", ".join(str(None if tensor is None else tuple(tensor.shape)) for tensor in tensors)


def before_forward(name: str, module: nn.Module, inputs: Any) -> None:
    print(f"{name:5} forward pre-hook    input {shapes(inputs)}")


def after_forward(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
    print(f"{name:5} forward hook        input {shapes(inputs)}, output {shapes([output])}")


def after_backward(name: str, module: nn.Module, grad_input: Any, grad_output: Any) -> None:
    print(f"{name:5} full backward hook  grad_output {shapes(grad_output)}, grad_input {shapes(grad_input)}")


def watch(model: nn.Module) -> list[Any]:
    """Hook into every child; the handles, whose `remove()` takes the hooks out again."""
    handles = []
    for name, module in model.named_children():
        handles.append(module.register_forward_pre_hook(partial(before_forward, name)))
        handles.append(module.register_forward_hook(partial(after_forward, name)))
        handles.append(module.register_full_backward_hook(partial(after_backward, name)))
    return handles


def main() -> None:
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("first", nn.Linear(4, 3))
    model.add_module("relu", nn.ReLU())
    model.add_module("last", nn.Linear(3, 2))
    handles = watch(model)
    inputs = torch.randn(5, 4, requires_grad=True)
    model(inputs).square().mean().backward()
    for handle in handles:
        handle.remove()
    model(inputs)  # says nothing any more


if __name__ == "__main__":
    main()
