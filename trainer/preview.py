"""A look at what the model makes of some validation samples, where they are images in classes."""

from typing import Any

import torch
from torch import Tensor

from logger.writers import Writers

COUNT, TILE = 16, 96  # samples; pixels of a tile's side


class Preview:
    """Keeps the first validation batch after a training step, and draws it; nothing that is no image with a class."""

    def __init__(self) -> None:
        self._kept: tuple[Tensor, Tensor, Tensor] | None = None
        self._step = -1

    def keep(self, step: int, inputs: Any, outputs: Any, targets: Any) -> None:
        if step != self._step and _are_classified_images(inputs, outputs, targets):
            self._step = step
            self._kept = (inputs[:COUNT].detach(), outputs[:COUNT].detach(), targets[:COUNT])

    def write_to(self, writers: Writers, step: int) -> None:
        if self._kept is not None:
            inputs, outputs, targets = self._kept
            writers.picture("predictions/valid", lambda: prediction_grid(inputs, outputs.argmax(dim=1), targets), step)
        self._kept = None


def _are_classified_images(inputs: Any, outputs: Any, targets: Any) -> bool:
    """(B, 1 or 3, H, W) floats, (B, classes) scores, (B,) classes."""
    if not all(isinstance(tensor, Tensor) for tensor in (inputs, outputs, targets)):
        return False
    is_image = inputs.dim() == 4 and inputs.shape[1] in (1, 3) and inputs.is_floating_point()
    return is_image and outputs.dim() == 2 and targets.dim() == 1 and not targets.is_floating_point()


def prediction_grid(images: Tensor, predictions: Tensor, targets: Tensor) -> Tensor:
    """Images (B, 1 or 3, H, W) as tiles of a picture (3, height, width) uint8: green frame and class where the
    prediction is right; red, prediction and target where it is not."""
    from torchvision.utils import draw_bounding_boxes, make_grid

    low, high = images.amin(dim=(1, 2, 3), keepdim=True), images.amax(dim=(1, 2, 3), keepdim=True)
    scaled = ((images - low) / (high - low).clamp(min=1e-6) * 255).nan_to_num().to(torch.uint8).cpu()
    tiles = torch.nn.functional.interpolate(scaled.expand(-1, 3, -1, -1), size=(TILE, TILE))
    frame = torch.tensor([[1, 1, TILE - 2, TILE - 2]])
    framed = []
    for tile, prediction, target in zip(tiles, predictions.tolist(), targets.tolist(), strict=True):
        is_right = prediction == target
        label, colour = (f"{target}", "green") if is_right else (f"{prediction}, is {target}", "red")
        framed.append(
            draw_bounding_boxes(
                tile, frame, [label], colors=colour, width=2, label_colors="white", label_background_colors=colour
            )
        )
    return make_grid(torch.stack(framed), nrow=4, padding=2)
