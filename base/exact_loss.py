"""A loss that knows how many items it is a mean over, so that means and gradients of batches are combined exactly."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from logger.means import Count
from utils.batches.attributes import targets_of
from utils.distributed import exact_gradients
from utils.errors import BadReturn

# torch's losses by what they average over: all numbers of the targets, or labelled places by the weights of classes.
_NUMBERS = {"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy", "kl_div", "soft_margin_loss"}
_NUMBERS |= {"binary_cross_entropy_with_logits", "poisson_nll_loss", "hinge_embedding_loss"}
_NUMBERS |= {"MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "BCELoss", "KLDivLoss", "SoftMarginLoss"}
_NUMBERS |= {"BCEWithLogitsLoss", "PoissonNLLLoss", "HingeEmbeddingLoss"}
_CLASSES = {"cross_entropy", "nll_loss", "CrossEntropyLoss", "NLLLoss"}


class ExactLoss:
    """Call it as the loss itself: `loss_fn(outputs, targets)`. It has all attributes of the loss.

    The result has an attribute `over`: how many items it is a mean over, where these are not the samples of the batch
    (labelled tokens, weights of classes). `StepResult` reads it. Where several processes have unequal numbers of these
    items, the gradients of the result are weighted accordingly.

    `weighs_gradients`: False for a step that does so itself.
    """

    def __init__(self, loss_fn: Callable[..., Any], datasets: Iterable[Any] = ()):
        if isinstance(loss_fn, nn.Module) and any(True for _ in loss_fn.parameters()):
            raise ValueError("the loss has parameters, which this trainer would neither train nor save")
        self.loss_fn = loss_fn
        self.items = LossItems(loss_fn, datasets)
        self.weighs_gradients = True

    def __getattr__(self, name: str) -> Any:
        if name == "loss_fn":  # of a copy that is being made
            raise AttributeError(name)
        return getattr(self.loss_fn, name)

    def __call__(self, outputs: Any, targets: Any, *args: Any, **options: Any) -> Any:
        if self.items.is_over_numbers:
            _check_shapes(self.items.name, outputs, targets)
        loss, items = self.loss_fn(outputs, targets, *args, **options), self.items.over(targets)
        if items is None:
            return loss
        if self.weighs_gradients and torch.is_grad_enabled():
            loss = exact_gradients.weigh_by_items(loss, items)
        loss.over = items
        return loss


def _check_shapes(name: str, outputs: Any, targets: Any) -> None:
    """Raise `BadReturn` for outputs and targets of different shapes, of which torch would compare each with each."""
    if isinstance(outputs, Tensor) and isinstance(targets, Tensor) and outputs.shape != targets.shape:
        raise BadReturn(f"loss: {name} {shapes_differ(outputs, targets)}")


class LossItems:
    """Knows torch's losses; of a person's own loss, the mean is taken to be over samples.

    `datasets`: those of the run. Where their `targets` show that no label is ignored, no step has to look.
    """

    def __init__(self, loss_fn: Callable[..., Any], datasets: Iterable[Any] = ()):
        function = loss_fn.func if isinstance(loss_fn, partial) else loss_fn
        self.name = getattr(function, "__name__", type(function).__name__)
        of_torch = (getattr(function, "__module__", None) or "").startswith("torch.nn.")
        self.is_over_numbers = of_torch and self.name in _NUMBERS
        self._is_over_classes = of_torch and self.name in _CLASSES
        args = (
            loss_fn.keywords if isinstance(loss_fn, partial) else vars(loss_fn) if hasattr(loss_fn, "__dict__") else {}
        )
        self._weight = getattr(loss_fn, "weight", args.get("weight")) if self._is_over_classes else None
        self.ignore_index = args.get("ignore_index", -100)
        self._may_ignore = not all(_has_none(targets_of(dataset), self.ignore_index) for dataset in datasets)

    @property
    def is_known(self) -> bool:
        return self.is_over_numbers or self._is_over_classes

    def over(self, targets: Any) -> Count | None:
        """How many items the loss of these targets is a mean over; None for as many as there are samples."""
        if not isinstance(targets, Tensor):
            return None
        if self.is_over_numbers:
            return targets.numel() if targets.dim() > 1 else None
        if not self._is_over_classes:
            return None
        if targets.is_floating_point():  # probabilities of classes (B, C, ...)
            return targets.numel() // targets.shape[1] if targets.dim() > 2 else None
        if self._weight is None and targets.dim() == 1 and not self._may_ignore:
            return None
        is_counted = targets != self.ignore_index
        if self._weight is None:
            return is_counted.sum()
        return (self._weight.to(targets.device)[targets.where(is_counted, 0)] * is_counted).sum()


def shapes_differ(outputs: Tensor, targets: Tensor) -> str:
    """What is wrong with outputs and targets that fit only by broadcasting, and what to write."""
    own, other = tuple(outputs.shape), tuple(targets.shape)
    return (
        f"gets outputs {own} and targets {other}, which fit only by broadcasting: each output would be compared with "
        "targets of other samples. Make the shapes equal: outputs.squeeze(1) in the model, or targets[:, None] in the "
        "data set."
    )


def _has_none(targets: Tensor | None, value: int) -> bool:
    return targets is not None and not bool((targets == value).any())
