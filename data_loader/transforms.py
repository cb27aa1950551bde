"""Transforms of batches, for `train_transform` and `eval_transform`, where torchvision's v2 ones may stand too."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Of torchvision.transforms.v2: draw nothing at random, so that a batch can go through at once.
_SAME_FOR_EVERY_SAMPLE = ("CenterCrop", "ConvertImageDtype", "Grayscale", "Normalize", "Pad", "Resize", "ToDtype")


class BatchTransform(nn.Module):
    """Base of transforms of a batch (B, C, H, W) that treat each sample by itself."""


class NormalizeUint8(BatchTransform):
    """uint8 pixels 0 to `full_scale` to float32 `(pixel / full_scale - mean) / std`, channel by channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], full_scale: float = 255.0):
        super().__init__()
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(f"mean {mean} and std {std} need a number for each channel, std above 0")
        self.mean = (torch.tensor(mean) * full_scale)[:, None, None]
        self.std = (torch.tensor(std) * full_scale)[:, None, None]

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.float().sub_(self.mean).div_(self.std)


class RandomShift(BatchTransform):
    """Pad by `padding` pixels of 0 and crop to the old size at a random place, another one for each sample."""

    def __init__(self, padding: int):
        super().__init__()
        if padding < 0:
            raise ValueError(f"padding is {padding}, not a number of pixels")
        self.padding = padding

    def forward(self, pixels: Tensor) -> Tensor:
        count, _, height, width = pixels.shape
        padded = nn.functional.pad(pixels, [self.padding] * 4)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, C, 2p+1, 2p+1, H, W), a view
        top, left = torch.randint(2 * self.padding + 1, (2, count))
        return windows[torch.arange(count), :, top, left]


class RandomFlip(BatchTransform):
    """Mirror each sample left to right with probability `p`."""

    def __init__(self, p: float = 0.5):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"p is {p}, not a probability")
        self.p = p

    def forward(self, pixels: Tensor) -> Tensor:
        flipped = torch.rand(len(pixels)) < self.p
        return torch.where(flipped[:, None, None, None], pixels.flip(-1), pixels)


def apply_to_batch(transforms: Sequence[nn.Module], pixels: Tensor) -> Tensor:
    """Apply transforms to (B, C, H, W); those that draw one random number for all they see, a sample at a time."""
    for transform in transforms:
        if isinstance(transform, BatchTransform) or type(transform).__name__ in _SAME_FOR_EVERY_SAMPLE:
            pixels = transform(pixels)
        else:
            pixels = torch.stack([transform(sample) for sample in pixels])
    return pixels
