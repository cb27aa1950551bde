"""How the processes of a run share its work: what the section `parallel` may name."""

import inspect
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from utils.distributed import processes, shards
from utils.distributed.exact_gradients import weigh_outputs, weighted_all_reduce
from utils.errors import RunError


@dataclass(frozen=True)
class Parallel:
    """Processes that share nothing. `timeout_minutes`: how long they wait for each other before the run ends."""

    timeout_minutes: float
    needs_all_gradients: ClassVar[bool] = False  # whether a parameter without a gradient would stop a step
    steps_are_joint: ClassVar[bool] = False  # whether a step takes all processes, an evaluation's, too

    def check(self, module: nn.Module) -> None:
        """Raise `ConfigError` where several processes could not share this module."""

    def share(self, module: nn.Module, device: torch.device) -> nn.Module:
        """What trains in the module's place, on the device: the module itself, or this process's part of it."""
        return module.to(device)

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        """What to call in the module's place."""
        return module

    def check_unchanged(self, modules: Iterable[Any]) -> None:
        """Raise `RunError` where a wrapped module trains other parameters than when it was wrapped."""

    def exchanging(self, module: nn.Module, is_on: bool) -> AbstractContextManager[None]:
        """Where it is off, the backward passes within leave their gradients to the next one where it is on."""
        return nullcontext()


_KNOWN = inspect.signature(DistributedDataParallel).parameters
_BUFFERS_STAY: dict[str, Any] = {
    "forward_sync_buffers" if "forward_sync_buffers" in _KNOWN else "broadcast_buffers": False
}


class _Replica(DistributedDataParallel):
    """The module itself where there is nothing to learn: an evaluation may have a batch more here than elsewhere."""

    def __init__(self, module: nn.Module, **options: Any):
        super().__init__(module, **options)
        self._frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}

    def thawed(self) -> list[str]:
        """Parameters that did not train when the module was wrapped."""
        named = self.module.named_parameters()
        return [name for name, parameter in named if name in self._frozen and parameter.requires_grad]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return super().forward(*args, **kwargs) if torch.is_grad_enabled() else self.module(*args, **kwargs)


@dataclass(frozen=True)
class Replicas(Parallel):
    """Each process has the whole model, and a part of each batch; `backward` averages the gradients over them.

    Buffers are not exchanged each step, as torch would by itself, but where they count: the run gives every process
    those of the first before it evaluates.
    """

    options: dict[str, Any]

    @property
    def needs_all_gradients(self) -> bool:  # type: ignore[override]
        return not (self.options.get("find_unused_parameters") or self.options.get("static_graph"))

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        if not any(parameter.requires_grad for parameter in module.parameters()):
            return module
        ids = [device] if device.type == "cuda" else None
        group = processes.device_group()
        replica = _Replica(module, device_ids=ids, process_group=group, **_BUFFERS_STAY, **self.options)
        replica.register_comm_hook(replica.process_group, weighted_all_reduce)
        return replica

    def check_unchanged(self, modules: Iterable[Any]) -> None:
        for module in modules:
            if isinstance(module, _Replica) and (names := module.thawed()):
                raise RunError(
                    f"parallel: {', '.join(names[:4])} did not train when the run started, and does now: the processes "
                    "do not exchange its gradients. Let it train from the start, in a group with the learning rate 0."
                )

    def exchanging(self, module: nn.Module, is_on: bool) -> AbstractContextManager[None]:
        return nullcontext() if is_on or not isinstance(module, _Replica) else module.no_sync()


@dataclass(frozen=True)
class FullShards(Replicas):
    """Each process has a part of every parameter, gradient and optimizer state, and a part of each batch. What a module
    computes with is gathered for its turn. Other modules than the run's model are replicas.

    Parts of a batch (`micro_batch_size`) exchange their gradients each: what is not exchanged would be whole.
    """

    modules: tuple[str, ...]
    is_bf16: bool
    is_freed: bool
    needs_all_gradients = False
    steps_are_joint = True

    def check(self, module: nn.Module) -> None:
        shards.check_classes(module, self.modules)

    def share(self, module: nn.Module, device: torch.device) -> nn.Module:
        return shards.shard(module, device, self.modules, self.is_bf16, self.is_freed)

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        if not shards.is_sharded(module):
            return super().wrap(module, device)
        weigh_outputs(module)
        return module


def ddp(
    timeout_minutes: float = 10.0,
    find_unused_parameters: bool = False,
    static_graph: bool = False,
    bucket_cap_mb: float = 25.0,
) -> Parallel:
    """torch's DistributedDataParallel, with its own arguments."""
    options: dict[str, Any] = {"find_unused_parameters": find_unused_parameters, "static_graph": static_graph}
    options |= {"bucket_cap_mb": bucket_cap_mb, "gradient_as_bucket_view": True}
    return Replicas(_checked(timeout_minutes), options)


def fsdp(
    modules: str | list[str] | None = None,
    mixed_precision: Literal["off", "bf16"] = "off",
    reshard_after_forward: bool = True,
    timeout_minutes: float = 10.0,
) -> Parallel:
    """torch's FSDP2 (`fully_shard`), for a model that is too large for one GPU.

    `modules`: the classes whose modules are gathered one at a time, such as a transformer's block. `mixed_precision`:
    what is gathered and computed with is bfloat16; parameters and the sums of gradients stay float32.
    `reshard_after_forward`: false keeps what was gathered until the backward pass.
    """
    classes = (modules,) if isinstance(modules, str) else tuple(modules or ())
    return FullShards(_checked(timeout_minutes), {}, classes, mixed_precision == "bf16", reshard_after_forward)


def _checked(timeout_minutes: float) -> float:
    if not 0 < timeout_minutes < 60 * 24 * 365:
        raise ValueError(f"timeout_minutes is {timeout_minutes}, not a time to wait")
    return timeout_minutes
