"""Fused kernels of optimizers: one pass over the weights in the place of one an operation."""

from collections.abc import Callable, Collection
from typing import Any

from torch import nn, optim

# Each has fused kernels on these; what they save is in docs/performance.md.
_DEVICES: dict[Callable[..., Any], tuple[str, ...]] = {
    optim.SGD: ("cpu", "cuda"),
    optim.Adam: ("cpu", "cuda"),
    optim.AdamW: ("cpu", "cuda"),
    optim.Adagrad: ("cpu",),
}
_CHOICES = {"fused", "foreach", "capturable", "differentiable"}  # of the same matter: who names one has chosen


def fused_if_possible(optimizer: Callable[..., Any], chosen: Collection[str], model: nn.Module) -> dict[str, bool]:
    """The argument by which one of torch's optimizers uses its fused kernel; none where one of the arguments `chosen`
    decides it already, or the model is not for it: complex weights, sparse gradients, an unknown device."""
    if not _CHOICES.isdisjoint(chosen) or any(getattr(module, "sparse", False) for module in model.modules()):
        return {}
    devices = _DEVICES.get(optimizer, ())
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    can = all(weight.is_floating_point() and weight.device.type in devices for weight in weights)
    return {"fused": True} if can else {}
