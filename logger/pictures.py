"""Pictures for writers, as (3, height, width) uint8 tensors."""

import torch
from torch import Tensor, nn

_CELL = 28  # the side of a cell; wide enough for 9999
_SIDE = 1000  # of a picture, at most; cells of larger matrices are added up
_MOST_NUMBERED = 1024  # cells; more numbers could not be read


def matrix_picture(matrix: Tensor) -> Tensor:
    """A matrix (rows, columns) of counts as a heat map: shades by the share of the row's sum, numbers on top of few."""
    if matrix.numel() == 0:
        raise ValueError("the matrix is empty")
    counts = _pooled(matrix)
    shares = (counts / counts.sum(dim=1, keepdim=True).clamp(min=1e-12)).nan_to_num().clamp(0, 1)
    colours = torch.stack([(255 + shares * (dark - 255)).to(torch.uint8) for dark in (8, 48, 107)])
    cell = max(1, min(_CELL, _SIDE // max(counts.shape)))
    heat_map = colours.repeat_interleave(cell, dim=1).repeat_interleave(cell, dim=2)
    return _numbered(heat_map, counts, shares) if counts.numel() <= _MOST_NUMBERED and cell == _CELL else heat_map


def _pooled(matrix: Tensor) -> Tensor:
    """The sums of square blocks, at most `_SIDE` by `_SIDE`, in float64 on the CPU; a band of rows at a time, since the
    whole matrix of 10,000 classes is large. Of a sparse matrix, only the entries are looked at."""
    size = -(-max(matrix.shape) // _SIDE)
    if matrix.is_sparse:
        entries = matrix.cpu().coalesce()
        sums = torch.zeros([-(-length // size) for length in matrix.shape], dtype=torch.float64)
        return sums.index_put_(tuple(entries.indices() // size), entries.values().double(), accumulate=True)
    if size <= 1:
        return matrix.double().cpu()
    rest = -matrix.shape[1] % size
    bands = [nn.functional.pad(band.sum(dim=0), (0, rest)).view(-1, size).sum(dim=1) for band in matrix.split(size)]
    return torch.stack(bands).double().cpu()


def _numbered(heat_map: Tensor, counts: Tensor, shares: Tensor) -> Tensor:
    from torchvision.utils import draw_bounding_boxes

    boxes, labels, text_colours = [], [], []
    for row, column in torch.cartesian_prod(*map(torch.arange, counts.shape)).tolist():
        x, y = column * _CELL, row * _CELL
        boxes.append([x, y, x + _CELL - 1, y + _CELL - 1])
        labels.append(f"{counts[row, column]:g}" if counts[row, column] else "")
        text_colours.append("white" if shares[row, column] > 0.5 else "black")
    return draw_bounding_boxes(
        heat_map, torch.tensor(boxes), labels=labels, colors="lightgray", label_colors=text_colours, width=1
    )
