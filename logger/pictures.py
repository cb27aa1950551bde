"""Pictures for writers, as (3, height, width) uint8 tensors."""

import torch
from torch import Tensor

_CELL = 28  # the side of a cell; wide enough for 9999


def matrix_picture(matrix: Tensor) -> Tensor:
    """A matrix (rows, columns) of counts as a heat map: shades by the share of the row's sum, numbers on top."""
    from torchvision.utils import draw_bounding_boxes

    rows, columns = matrix.shape
    counts = matrix.double().cpu()
    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1e-12)
    dark = torch.tensor([8.0, 48.0, 107.0])[:, None, None]
    colours = (255 + shares.nan_to_num() * (dark - 255)).to(torch.uint8)
    heat_map = colours.repeat_interleave(_CELL, dim=1).repeat_interleave(_CELL, dim=2)
    boxes, labels, text_colours = [], [], []
    for row in range(rows):
        for column in range(columns):
            x, y = column * _CELL, row * _CELL
            boxes.append([x, y, x + _CELL - 1, y + _CELL - 1])
            labels.append(f"{counts[row, column]:g}" if counts[row, column] else "")
            text_colours.append("white" if shares[row, column] > 0.5 else "black")
    if rows * columns > 1024:  # numbers could not be read
        return heat_map
    return draw_bounding_boxes(
        heat_map, torch.tensor(boxes), labels=labels, colors="lightgray", label_colors=text_colours, width=1
    )
