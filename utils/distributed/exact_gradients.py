"""Exact gradients where the processes of a run have unequal parts of a batch, without a line in the step.

DDP and FSDP average gradients over processes, as if all parts of a batch were equal. Here each process multiplies its
gradients by `samples here * processes / samples in all` first, so that the average is the gradient of the mean over
the whole batch. With DDP that happens to all gradients, when they are exchanged; with FSDP to those that flow back from
the outputs of the module. Penalties that are computed from the parameters themselves are exact with both.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import GradBucket, ProcessGroup
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.futures import Future

from utils.batch import tensors
from utils.distributed import processes


class _Batch:
    """The batch of the current step. `weight`: what its mean weighs in the average over the processes."""

    weight = 1.0


def set_weight(weight: float) -> None:
    """Say what the mean over this process's part of the next batch weighs; 1 where all parts are equal."""
    _Batch.weight = weight


def weight() -> float:
    return _Batch.weight


def weighted_all_reduce(group: ProcessGroup, bucket: GradBucket) -> Future[Tensor]:
    """The communication hook of DDP: as without a hook, but weighted."""
    if _Batch.weight != 1.0:
        bucket.buffer().mul_(_Batch.weight)
    return allreduce_hook(group, bucket)


def weigh_outputs(module: nn.Module) -> None:
    """Weight the gradients that flow back into a module from its outputs."""

    def weigh(_module: nn.Module, _args: Any, outputs: Any) -> None:
        factor = _Batch.weight
        for output in tensors(outputs) if factor != 1.0 else ():
            if output.requires_grad:
                output.register_hook(lambda gradient: gradient * factor)

    module.register_forward_hook(weigh)


def average(gradients: Iterable[Tensor]) -> None:
    """Replace gradients that were not exchanged by their weighted average over the processes."""
    gradients = list(gradients)
    for gradient in gradients if _Batch.weight != 1.0 else ():
        gradient.mul_(_Batch.weight)
    processes.average(gradients)


def weigh_by_items(loss: Tensor, items: Tensor | float) -> Tensor:
    """The same loss; its gradients are weighted by the items that it is a mean over, in place of samples. All processes
    ask for it together."""
    if processes.world_size() == 1:
        return loss
    return _WeightedGradient.apply(loss, share_of(items) / weight())


def share_of(items: Tensor | float) -> Tensor:
    """What a mean over so many items weighs in the mean over those of all processes, times the number of processes."""
    own = torch.as_tensor(items, dtype=torch.float64)
    (total,) = processes.sums([float(own)])  # waits for the device
    return (processes.world_size() * own / max(total, torch.finfo(own.dtype).tiny)).float()


class _WeightedGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Tensor, factor: Tensor) -> Tensor:
        ctx.factor = factor
        return loss.view_as(loss)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        factor = ctx.factor.to(gradient)
        return torch.where(factor > 0, gradient * factor, 0.0), None  # without items here, the loss is NaN
