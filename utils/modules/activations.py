"""Activation checkpointing: layers that forget what they computed, and compute it again in the backward pass.

Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016; `torch.utils.checkpoint`.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from fnmatch import fnmatchcase
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from utils.distributed.shards import class_name


def checkpoint_activations(model: nn.Module, patterns: str | list[str] | None) -> None:
    """Have every module whose name or class matches a pattern (`layer*`, `BasicBlock`) keep its input alone. Names of
    parameters stay; what is computed is the same to the last bit.

    Raises:
        ValueError: a pattern matches none.
    """
    for pattern in [patterns] if isinstance(patterns, str) else patterns or ():
        found = [module for name, module in model.named_modules() if name and _matches(name, module, pattern)]
        if not found:
            raise ValueError(f"activation_checkpointing: no module has the name or the class {pattern!r}")
        for module in found:
            if "forward" not in vars(module):  # or another pattern has had it
                contexts = partial(_contexts, module)
                module.forward = partial(checkpoint, module.forward, use_reentrant=False, context_fn=contexts)


def _matches(name: str, module: nn.Module, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(class_name(module), pattern)


def _contexts(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What surrounds the first computation, and the second."""
    return nullcontext(), _spare_buffers(module)


@contextmanager
def _spare_buffers(module: nn.Module) -> Iterator[None]:
    """A norm's running means would be moved a second time."""
    kept = {inner: dict(inner._buffers) for inner in module.modules()}
    try:
        for inner, buffers in kept.items():
            inner._buffers.update({name: buffer.clone() for name, buffer in buffers.items() if buffer is not None})
        yield
    finally:
        for inner, buffers in kept.items():
            inner._buffers.update(buffers)
