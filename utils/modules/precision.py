"""Mixed precision: what is computed in 16 bits, and how small gradients survive that."""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor
from torch.amp import GradScaler, autocast

from utils.modules.step_option import StepOption

Amp = Literal["off", "bf16", "fp16"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision(StepOption):
    """`autocast` around forward and loss; `scaler` around backward and step: with "fp16" alone it does something.

    "bf16" has the range of float32 and needs no scaling; "fp16" is for GPUs that are slow in bfloat16.
    """

    option = "amp"
    remedy = "Enclose forward and loss: with self.precision.autocast(), and scale the loss by self.scaler"

    def __init__(self, amp: Amp, device: torch.device):
        self.is_on = amp != "off"
        self._dtype = _DTYPES.get(amp)
        self._device_type = device.type
        self.scaler = GradScaler(device.type, enabled=amp == "fp16")

    def autocast(self) -> AbstractContextManager[None]:
        self.is_used = True
        return autocast(self._device_type, self._dtype) if self._dtype is not None else nullcontext()

    def reported(self, grad_norm: Tensor) -> dict[str, Tensor]:
        """What a step reports of its gradients. The scaler tries too large a scale now and then, finds gradients that
        are infinite, and skips the step: of such a step the norm is 0, and `skipped` 1."""
        if not self.scaler.is_enabled():
            return {"grad_norm": grad_norm}
        is_finite = torch.isfinite(grad_norm)
        return {"grad_norm": torch.where(is_finite, grad_norm, 0.0), "skipped": 1.0 - is_finite.float()}
