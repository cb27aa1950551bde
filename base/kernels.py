"""Which kernels compute, where the config leaves that to the machine. What each saves is in docs/performance.md."""

from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn, optim

from base.run import Batches
from utils.batch import tensors
from utils.distributed import from_first
from utils.errors import BatchError, ConfigError, UserError
from utils.seed import rng_state, set_rng_state
from utils.shards import is_sharded

# The optimizers that have a fused kernel, one pass over the weights in the place of one an operation; and where.
_FUSED: dict[Callable[..., Any], tuple[str, ...]] = {
    optim.SGD: ("cpu", "cuda"),
    optim.Adam: ("cpu", "cuda"),
    optim.AdamW: ("cpu", "cuda"),
    optim.Adagrad: ("cpu",),
}
FEW = 2  # samples, so that the trial needs no memory that the run may not have
_CHOICES = {"fused", "foreach", "capturable", "differentiable"}  # of the same matter: who names one has chosen


def fused_if_possible(optimizer: Callable[..., Any], chosen: Collection[str], model: nn.Module) -> dict[str, bool]:
    """The argument by which one of torch's optimizers uses its fused kernel; none where one of the arguments `chosen`
    decides it already, or the model is not for it: complex weights, sparse gradients, an unknown device."""
    if not _CHOICES.isdisjoint(chosen) or any(getattr(module, "sparse", False) for module in model.modules()):
        return {}
    devices = _FUSED.get(optimizer, ())
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    can = all(weight.is_floating_point() and weight.device.type in devices for weight in weights)
    return {"fused": True} if can else {}


def in_memory_format(
    model: nn.Module, is_last: bool | None, batches: Mapping[str, Batches], optimizer: Callable[..., Any]
) -> nn.Module:
    """The model with the channels of a place side by side (`channels_last`), or as it is. None: on the CPU, if it
    convolves in two dimensions, works so, and nothing outside can tell: the optimizer is one of those above, which take
    weights as they lie (LBFGS does not). All processes of a run do as the first one.

    Raises:
        ConfigError: it is asked of a model that is shared out.
    """
    if is_last and is_sharded(model):
        raise ConfigError("model.channels_last: does not go with parallel fsdp, which stores its parts in order.")
    if is_last is None:
        may_suit = optimizer in _FUSED and bool(batches) and _may_suit(model)
        is_last = may_suit and from_first(lambda: _suits(model, next(iter(batches.values()))))
    return model.to(memory_format=torch.channels_last) if is_last else model


def _may_suit(model: nn.Module) -> bool:
    if is_sharded(model):
        return False
    is_convolving = any(isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) for module in model.modules())
    return is_convolving and all(weight.device.type == "cpu" for weight in model.parameters())


def _suits(model: nn.Module, batches: Batches) -> bool:
    """Tried on a copy, with few samples, both ways: `view` behind a convolution fails. What comes out must have no
    places, or `view` in a loss might. Other mistakes are told by the run's own first step, on the model as it is."""
    try:
        batch = batches.trial()
    except BatchError as error:
        raise UserError(str(error)) from error
    inputs = batch[0] if isinstance(batch, (tuple, list)) and batch else None
    if not isinstance(inputs, Tensor) or inputs.dim() != 4:
        return False
    rng = rng_state()
    try:
        copy = deepcopy(model).to(memory_format=torch.channels_last)
        outputs = list(tensors(copy(inputs[:FEW].clone())))
        torch.stack([output.sum() for output in outputs]).sum().backward()
        return all(output.dim() < 4 for output in outputs)
    except Exception:
        return False
    finally:
        set_rng_state(rng)
