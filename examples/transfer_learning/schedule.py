"""When what was learned before may change."""

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class Unfreeze(LRScheduler):
    """Holds all groups of the optimizer but the first at rate 0 for `frozen_epochs`; then each has its own rate.

    The first group is what `optimizer.groups` does not name: the new head. What is held still gets gradients, so that
    Adam's averages are warm when it moves. (`model.freeze` saves those gradients, and freezes for good.)

    Raises:
        ValueError: there is only one group, or `frozen_epochs` is negative.
    """

    def __init__(self, optimizer: Optimizer, frozen_epochs: int):
        if len(optimizer.param_groups) < 2:
            raise ValueError("nothing to hold: optimizer.groups names no parameters, or all")
        if frozen_epochs < 0:
            raise ValueError(f"frozen_epochs is {frozen_epochs}, not a number of epochs")
        self.frozen_epochs = frozen_epochs
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        head, *others = self.base_lrs
        is_frozen = self.last_epoch < self.frozen_epochs
        return [head, *(0.0 if is_frozen else rate for rate in others)]
