"""A moving average of the weights, which often scores better than the weights themselves.

Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992; `torch.optim.swa_utils`.
"""

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from utils.distributed.shards import is_sharded
from utils.modules.step_option import StepOption


class WeightAverage(StepOption):
    """After each step the average moves by `1 - decay` towards the weights; buffers are those of the model.

    `model`: what is scored, and what others load: the average; with a decay of None, the model itself.
    """

    option = "ema_decay"
    remedy = "Behind the optimizer's step, call update() of the average (in Trainer: self.ema.update())"

    def __init__(self, model: nn.Module, decay: float | None):
        if decay is not None and not 0 <= decay < 1:
            raise ValueError(f"ema_decay is {decay}, not a number from 0 to below 1")
        if decay is not None and is_sharded(model):
            raise ValueError("ema_decay: does not go with parallel fsdp. Leave it out, or use ddp")
        self.is_on = decay is not None
        self.model = self._trained = model
        self._average: AveragedModel | None = None
        if decay is not None:
            self._average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
            self._average.requires_grad_(False)
            self._average.n_averaged.fill_(1)  # the first weights count, too: there is no first step that is another
            self.model = self._average.module

    def update(self) -> None:
        self.is_used = True
        if self._average is not None:
            self._average.update_parameters(self._trained)

    def modules(self) -> dict[str, nn.Module]:
        """What a checkpoint must have, by its key."""
        return {"model": self.model} if self._average is None else {"model": self.model, "trained_model": self._trained}
