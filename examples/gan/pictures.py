"""Images as one picture."""

import torch
from torch import Tensor

ENLARGED = 4  # pixels of the picture to a pixel of an image, each way


def grid(images: Tensor, columns: int) -> Tensor:
    """Images (B, 1, H, W) from -1 to 1 as tiles of a picture (3, height, width), uint8, dark on light."""
    from torchvision.utils import make_grid

    pixels = ((1 - images.clamp(-1, 1)) * 127.5).round().to(torch.uint8).cpu()
    enlarged = pixels.repeat_interleave(ENLARGED, dim=2).repeat_interleave(ENLARGED, dim=3)
    return make_grid(enlarged, nrow=columns, padding=2, pad_value=200)
