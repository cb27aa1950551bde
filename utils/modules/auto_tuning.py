"""Which kernels compute, where the config leaves that to the machine. What each saves is in docs/performance.md.

What is chosen here must train to the same weights as torch's plain way. Where that is not certain, it is not chosen.
"""

import inspect
import re
import sys
from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn, optim

from utils.batch import tensors
from utils.batches.batches import Batches
from utils.distributed.processes import from_first
from utils.distributed.shards import is_sharded
from utils.errors import BatchError, ConfigError, UserError
from utils.seed import rng_state, set_rng_state
from utils.snapshot import untouched

# The optimizers that have a fused kernel, one pass over the weights in the place of one an operation; and where.
_FUSED: dict[Callable[..., Any], tuple[str, ...]] = {
    optim.SGD: ("cpu", "cuda"),
    optim.Adam: ("cpu", "cuda"),
    optim.AdamW: ("cpu", "cuda"),
    optim.Adagrad: ("cpu",),
}
_STATES_IN_KERNELS = {"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "sum"}
_ASKS_FOR_MEMORY = re.compile(r"\.(view|as_strided|stride|storage|untyped_storage|data_ptr|is_contiguous)\(")
FEW = 2  # samples, so that the trial needs no memory that the run may not have
_CHOICES = {"fused", "foreach", "capturable", "differentiable"}  # of the same matter: who names one has chosen


def fused_if_possible(optimizer: Callable[..., Any], chosen: Collection[str], model: nn.Module) -> dict[str, bool]:
    """Return `{"fused": True}` where an optimizer of torch's can use its fused kernel, else `{}`.

    It cannot where one of the arguments `chosen` already decides it, or where the model has weights in 16 bits (the
    kernel rounds less often), complex weights, sparse gradients, shards, or is on an unknown device.
    """
    if not _CHOICES.isdisjoint(chosen) or is_sharded(model):
        return {}
    if any(getattr(module, "sparse", False) for module in model.modules()):
        return {}
    devices = _FUSED.get(optimizer, ())
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    can = all(weight.dtype in (torch.float32, torch.float64) and weight.device.type in devices for weight in weights)
    return {"fused": True} if can else {}


def with_safe_kernels(optimizer: optim.Optimizer | None) -> optim.Optimizer | None:
    """Have a fused optimizer, chosen here or by the config, train to the same weights as the plain one."""
    if optimizer is None:
        return None
    _agree_on_kernels(optimizer)
    optimizer.register_load_state_dict_post_hook(_agree_on_kernels)
    optimizer.register_load_state_dict_post_hook(_check_loaded_states)
    optimizer.register_step_pre_hook(_prepare_fused_step)
    return optimizer


def _agree_on_kernels(optimizer: optim.Optimizer) -> None:
    """Let all groups be fused or none: a GradScaler skips the step of a fused optimizer within the kernel, and there is
    one switch for all groups. The fused SGD dampens the first gradient, the plain one does not."""
    groups = optimizer.param_groups
    is_fused = all(group.get("fused") and not (group.get("momentum") and group.get("dampening")) for group in groups)
    for group in groups if not is_fused else ():
        if group.get("fused"):
            group["fused"] = False
    if hasattr(optimizer, "_step_supports_amp_scaling"):
        optimizer._step_supports_amp_scaling = is_fused


def _check_loaded_states(optimizer: optim.Optimizer) -> None:
    """Refuse states that a fused kernel would read or write beyond their end: it does not look at shapes and strides.

    Raises:
        ValueError: a state does not have the shape of its parameter.
    """
    for group in optimizer.param_groups:
        for weight in group["params"] if group.get("fused") else ():
            state = optimizer.state.get(weight, {})
            for name in [name for name in state if name in _STATES_IN_KERNELS]:
                value, is_count = state[name], name == "step"
                if value is None:  # the momentum of a parameter without a gradient so far
                    continue
                if not isinstance(value, Tensor) or value.shape != (() if is_count else weight.shape):
                    found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                    raise ValueError(f"{name} of a parameter of shape {tuple(weight.shape)} is {found}")
                if is_count:
                    state[name] = value.float()
                elif value.stride() != weight.stride() and not _lie_alike(value, weight):
                    state[name] = torch.empty_like(weight).copy_(value)


def _prepare_fused_step(optimizer: optim.Optimizer, args: Any, kwargs: Any) -> None:
    """Give fused kernels what they take for granted and do not check: gradients that lie in memory as their weights
    do, and a momentum for each weight. Without one, a late first gradient raises, and a skipped first step leaves
    memory that nobody has written."""
    if not optimizer.param_groups[0].get("fused"):
        return
    for group in optimizer.param_groups:
        has_momentum = bool(group.get("momentum"))
        for weight in group["params"]:
            gradient = weight.grad
            if gradient is None:
                continue
            if gradient.layout is not torch.strided:
                group["fused"] = False
                return _agree_on_kernels(optimizer)
            if gradient.stride() != weight.stride() and not _lie_alike(gradient, weight):
                weight.grad = torch.empty_like(weight).copy_(gradient)
            if has_momentum and optimizer.state[weight].get("momentum_buffer") is None:
                optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)


def _lie_alike(gradient: Tensor, weight: Tensor) -> bool:
    """Whether two tensors lie in memory in the same order: strides of dimensions of one item do not count."""
    strides = zip(weight.shape, gradient.stride(), weight.stride(), strict=True)
    return all(size == 1 or one == other for size, one, other in strides)


def in_memory_format(
    model: nn.Module,
    is_last: bool | None,
    batches: Mapping[str, Batches],
    optimizer: Callable[..., Any],
    *users: Callable[..., Any],
) -> nn.Module:
    """The model in the `channels_last` memory format, or as it is. All processes of a run do as the first one.

    `is_last`: None for an automatic choice: on the CPU, if the model has two-dimensional convolutions, a trial succeeds
    in training and in evaluation, and nobody can notice: the output has no spatial dimensions, no code of the model or
    of its `users` (trainer, loss) asks how tensors lie in memory, and the optimizer is one of those above, which take
    weights as they lie (LBFGS does not). Scoring makes no trial, which would take the memory of a second model, but
    follows the checkpoint: see `as_saved`.

    Raises:
        ConfigError: `channels_last` is asked of a model in shards.
    """
    if is_last and is_sharded(model):
        raise ConfigError("model.channels_last: does not go with parallel fsdp, which stores its parts in order.")
    if is_last is None:
        may_suit = optimizer in _FUSED and "train" in batches and _may_suit(model)
        may_suit = may_suit and not _asks_for_memory([*map(type, model.modules()), *users])
        is_last = may_suit and from_first(lambda: _suits(model, batches["train"]))
    return model.to(memory_format=torch.channels_last) if is_last else model


def as_saved(model: nn.Module, state: Mapping[str, Any]) -> None:
    """Put a model into the memory format that its saved weights have: what a run has chosen, scoring follows."""
    kernels = [weight for weight in state.values() if isinstance(weight, Tensor) and weight.dim() == 4]
    is_last = any(
        weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous() for weight in kernels
    )
    if is_last and _may_suit(model):
        model.to(memory_format=torch.channels_last)


def _may_suit(model: nn.Module) -> bool:
    if is_sharded(model):
        return False
    is_convolving = any(isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) for module in model.modules())
    return is_convolving and all(weight.device.type == "cpu" for weight in model.parameters())


def _asks_for_memory(used: Collection[Callable[..., Any]]) -> bool:
    """Whether a class or function, or what it inherits, has code that depends on the order in memory. Libraries are
    left to the trial; a branch of a person's own code may be taken in a later epoch only."""
    owners = {owner for item in used for owner in (inspect.getmro(item) if inspect.isclass(item) else [item])}
    modules = {getattr(owner, "__module__", "") for owner in owners}
    for name in modules:
        if name.split(".")[0] in ("torch", "torchvision", "base", "abc", "builtins", "typing"):
            continue
        try:
            if _ASKS_FOR_MEMORY.search(inspect.getsource(sys.modules[name])):
                return True
        except (OSError, TypeError, KeyError):  # such as a class that was typed into a notebook
            return True
    return False


def _suits(model: nn.Module, batches: Batches) -> bool:
    """Try a copy, with few samples, forwards and backwards, in training and in evaluation: `view` behind a convolution
    fails. Other mistakes are reported by the run's own first step, on the model as it is."""
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
        with untouched(copy):  # its class may count
            for is_training in (False, True):
                outputs = list(tensors(copy.train(is_training)(inputs[:FEW].clone())))
                torch.stack([output.sum() for output in outputs]).sum().backward()
                if not all(output.dim() < 4 for output in outputs):
                    return False
        return True
    except Exception:
        return False
    finally:
        set_rng_state(rng)
