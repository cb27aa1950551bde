"""What happens to gradients between `backward` and `step`."""

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from utils.distributed.shards import whole


def check_max_norm(max_norm: float | None) -> float | None:
    """Raise `ValueError` for what is no limit of a norm."""
    if max_norm is not None and not (isinstance(max_norm, (int, float)) and max_norm > 0):
        raise ValueError(f"max_grad_norm is {max_norm!r}, not a number above 0")
    return max_norm


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float | None) -> Tensor:
    """Scale all gradients down together to a 2-norm of `max_norm`, where it is larger; None leaves them as they are.
    Returns the norm before that, without waiting for the device."""
    trained = [parameter for parameter in parameters if parameter.grad is not None]
    norm = get_total_norm([parameter.grad for parameter in trained if parameter.grad is not None])
    if max_norm is not None:
        clip_grads_with_norm_(trained, max_norm, norm)
    return whole(norm)
