"""The embedded digits, as a generator makes them."""

from data_loader.datasets import Digits
from data_loader.transforms import NormalizeUint8


class SymmetricDigits(Digits):
    """`Digits` with pixels from -1 (paper) to 1 (ink), the range of a tanh: float32 (1, 8, 8), and the class."""

    def __init__(self, split: str):
        super().__init__(split)
        self.transforms = [NormalizeUint8(mean=[0.5], std=[0.5], full_scale=16.0)]
