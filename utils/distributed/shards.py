"""A model that is shared out among the processes of a run (FSDP2): each holds a part of every tensor, a DTensor."""

import math
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_tensor, empty
from torch.optim import Optimizer

from utils.distributed.processes import broadcast_from_first, device_group, is_first
from utils.errors import ConfigError

_HERE = "in_shards"  # in the place of a tensor: where it is to be found
Shards = dict[str, DTensor]


def shard(module: nn.Module, device: torch.device, classes: Sequence[str], is_bf16: bool, is_freed: bool) -> nn.Module:
    """Share a module's parameters out, in place: its names stay, its tensors become parts.

    `classes`: names of the classes whose modules are gathered for their own turn alone, such as the blocks of a
    transformer; the rest of the model is one such unit. `is_bf16`: gather and compute in bfloat16. `is_freed`: give the
    gathered back between forward and backward.

    Raises:
        ConfigError: torch cannot share this model out.
    """
    group = device_group()
    assert group is not None, "select_devices has made it"
    broadcast_from_first([tensor.detach() for tensor in (*module.parameters(), *module.buffers())])
    mesh = DeviceMesh.from_group(group, device.type)
    inner = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if is_bf16 else MixedPrecisionPolicy()
    outer = replace(inner, output_dtype=torch.float32) if is_bf16 else inner  # what loss and metrics get
    try:
        for unit in reversed([*module.modules()]):
            if type(unit).__name__ in classes and unit is not module:
                fully_shard(unit, mesh=mesh, mp_policy=inner, reshard_after_forward=is_freed)
        fully_shard(module, mesh=mesh, mp_policy=outer)
        return module
    except (ValueError, NotImplementedError) as error:  # such as a parameter without dimensions
        raise ConfigError(f"parallel: fsdp cannot share this model out: {error}.") from error


def check_classes(module: nn.Module, classes: Sequence[str]) -> None:
    """Raise `ConfigError` for a class that no module within is of."""
    present = sorted({type(part).__name__ for part in module.modules()})
    if missing := [name for name in classes if name not in present]:
        raise ConfigError(
            f"parallel.args.modules: the model has no module of class {', '.join(missing)}. "
            f"Choices: {', '.join(present)}."
        )


def is_sharded(module: nn.Module) -> bool:
    return isinstance(module, FSDPModule)


def to_shards(module: nn.Module) -> None:
    """Give back what a forward pass has gathered, so that the module holds its own parts."""
    for unit in module.modules():
        if isinstance(unit, FSDPModule):
            unit.reshard()


def is_shard(tensor: Tensor) -> bool:
    return isinstance(tensor, DTensor)


def class_name(module: nn.Module) -> str:
    """The name of a module's class as it was before it was shared out."""
    return (type(module).__bases__[1] if isinstance(module, FSDPModule) else type(module)).__name__


def whole(tensor: Tensor) -> Tensor:
    """The tensor itself, of which this process may hold a part. All processes ask for it together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_part(tensor: Tensor) -> Tensor:
    """What of a tensor this process holds."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


# ---- states: what `state_dict` gives ----


def _mapped(state: Any, change: Callable[[str, Any], Any], key: str = "") -> Any:
    """The same nesting, with every item that is no dict, list or tuple changed; `key`: its path."""
    if isinstance(state, dict) and _HERE not in state:
        mapped = copy(state)  # a module's state has the versions of its modules in an attribute
        for name, item in state.items():
            mapped[name] = _mapped(item, change, f"{key}/{name}")
        return mapped
    if type(state) in (list, tuple):
        return type(state)(_mapped(item, change, f"{key}/{i}") for i, item in enumerate(state))
    return change(key, state)


def taken_apart(state: Any) -> tuple[Any, Shards]:
    """A state that holds no parts, but says where they are; and the parts, which need a place of their own."""
    shards: Shards = {}

    def take(key: str, item: Any) -> Any:
        if not isinstance(item, DTensor):
            return item
        shards[key] = cast(DTensor, item.detach())
        return {_HERE: key, "shape": list(item.shape), "dtype": str(item.dtype).removeprefix("torch.")}

    return _mapped(state, take), shards


def gathered(state: Any) -> Any:
    """The state as a single process has it, on the CPU of the first one; the others help. A tensor at a time."""

    def gather(_: str, item: Any) -> Any:
        if not isinstance(item, DTensor):
            return item
        tensor = whole(item.detach())
        return tensor.cpu() if is_first() else None

    return _mapped(state, gather)


def missing_tensors(state: Any, mesh: DeviceMesh | None, most_bytes: int) -> dict[str, Tensor]:
    """Room for the tensors that `taken_apart` has left out, by their key: for this process's part of each if it is of a
    mesh, else for the whole.

    Raises:
        ValueError: what is there says no shape or type, or they would have more bytes than that.
    """
    found: dict[str, Tensor] = {}
    left = most_bytes

    def make(_: str, item: Any) -> None:
        nonlocal left
        if not isinstance(item, dict) or _HERE not in item:
            return
        key, shape, dtype = item[_HERE], item.get("shape"), getattr(torch, str(item.get("dtype")), None)
        if not isinstance(dtype, torch.dtype) or not isinstance(shape, list) or not all(type(n) is int for n in shape):
            raise ValueError(f"{key}: no shape and type of a tensor")
        left -= math.prod(shape) * dtype.itemsize
        if left < 0 or min(shape, default=0) < 0:
            raise ValueError(f"{key}: larger than all that is there")
        parts: dict[str, Any] = {"device_mesh": mesh, "placements": [Shard(0)]} if mesh else {}
        found[key] = (empty if mesh else torch.empty)(*shape, dtype=dtype, **parts)

    _mapped(state, make)
    return found


def put_together(state: Any, tensors: dict[str, Tensor]) -> Any:
    """The state that was taken apart."""
    return _mapped(state, lambda _, item: tensors[item[_HERE]] if isinstance(item, dict) and _HERE in item else item)


def mesh_of(modules: Iterable[nn.Module]) -> DeviceMesh | None:
    """The processes among which one of them is shared out."""
    parameters = (parameter for module in modules for parameter in module.parameters())
    return next((parameter.device_mesh for parameter in parameters if isinstance(parameter, DTensor)), None)


def fitted(part: Any, state: dict[str, Any]) -> dict[str, Any]:
    """A state as a module or optimizer takes it: in parts where its own tensors are, and an optimizer's in the order in
    memory that its weights have, which fused kernels take for granted."""
    if isinstance(part, nn.Module):
        if not is_sharded(part):
            return state
        own, like = part.state_dict(), copy(state)
        for name, value in state.items():
            like[name] = _like(own.get(name), value)
        return like
    if isinstance(part, Optimizer) and isinstance(state.get("state"), dict):
        weights = [weight for group in part.param_groups for weight in group["params"]]
        return state | {
            "state": {
                number: {
                    name: _like(weights[number] if number < len(weights) else None, value)
                    for name, value in entry.items()
                }
                for number, entry in state["state"].items()
            }
        }
    return state


def _like(own: Any, value: Any) -> Any:
    is_like = isinstance(own, Tensor) and isinstance(value, Tensor) and value.shape == own.shape
    if not is_like or isinstance(value, DTensor):
        return value
    if isinstance(own, DTensor):
        return distribute_tensor(value.to(own.device), own.device_mesh, own.placements)
    return value if value.stride() == own.stride() else torch.empty_like(own, dtype=value.dtype).copy_(value)
