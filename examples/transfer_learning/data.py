"""Some classes of the digits, and of them only so many labels."""

from collections.abc import Sequence

import torch
from torch import nn

from data_loader.datasets import Digits


class SomeDigits(Digits):
    """The digits of some classes, which are numbered anew: 0 for the first of `classes`.

    `labels_per_class`: so many training samples of each class, drawn by `draw_seed`; None for all. The other splits
    stay whole. `transform`: applied to the normalised images (B, 1, 8, 8), float32, of every split.
    """

    def __init__(
        self,
        split: str,
        classes: Sequence[int],
        labels_per_class: int | None = None,
        draw_seed: int = 0,
        transform: Sequence[nn.Module] = (),
    ):
        super().__init__(split)
        members = [(self.targets == digit).nonzero().flatten() for digit in classes]
        if split == "train" and labels_per_class is not None:
            if (fewest := min(map(len, members))) < labels_per_class:
                raise ValueError(f"labels_per_class is {labels_per_class}, and there are no more than {fewest}")
            generator = torch.Generator().manual_seed(draw_seed)
            members = [own[torch.randperm(len(own), generator=generator)[:labels_per_class]] for own in members]
        self.images = self.images[torch.cat(members)]
        self.targets = torch.arange(len(classes)).repeat_interleave(torch.tensor([len(own) for own in members]))
        self.transforms += transform
