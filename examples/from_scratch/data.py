"""A pixel in the middle of each digit, and its eight neighbours."""

import torch
from torch import Tensor

from base.base_dataset import BaseDataset
from data_loader.datasets import Digits

NEIGHBOURS = ("above left", "above", "above right", "left", "right", "below left", "below", "below right")
ROW, COLUMN, WHITE = 4, 4, 16.0


class MiddlePixels(BaseDataset):
    """A sample is the neighbours of a pixel, (8,) float32 in the order of NEIGHBOURS, and the pixel itself, (1,); both
    from 0 to 1."""

    def __init__(self, split: str):
        super().__init__(split)
        images = Digits(split).images[:, 0]  # (N, 8, 8) uint8, 0 to 16
        windows = images[:, ROW - 1 : ROW + 2, COLUMN - 1 : COLUMN + 2].flatten(1) / WHITE  # (N, 9), the pixel is fifth
        self.neighbours = torch.cat([windows[:, :4], windows[:, 5:]], dim=1)
        self.pixels = windows[:, 4:5].contiguous()

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.neighbours[index], self.pixels[index]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return self.neighbours[indices], self.pixels[indices]
