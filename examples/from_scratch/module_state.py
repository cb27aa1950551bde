"""A parameter, buffers and a plain tensor in one module: who knows of each.

python -m examples.from_scratch.module_state
"""

import io
from collections.abc import Collection

import torch
from torch import Tensor, nn

NAMES = ("parameter", "buffer", "temporary", "plain")


class Example(nn.Module):
    """A tensor of each kind, all ones, float32."""

    def __init__(self) -> None:
        super().__init__()
        self.parameter = nn.Parameter(torch.ones(2))  # trained
        self.buffer = nn.Buffer(torch.ones(2))  # not trained, but part of the result: a running mean
        self.temporary = nn.Buffer(torch.ones(2), persistent=False)  # can be made again: a mask, a table of positions
        self.plain = torch.ones(2)  # the module does not know of it


def read_back(model: nn.Module) -> dict[str, Tensor]:
    """What of a model is in the file that is saved of it."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def main() -> None:
    model, moved = Example(), Example().to(torch.float64)
    columns: dict[str, Collection[str]] = {
        "parameters()": dict(model.named_parameters()),
        "buffers()": dict(model.named_buffers()),
        "state_dict()": model.state_dict(),
        "saved": read_back(model),
    }
    print(f"{'':9}  {'  '.join(columns)}  after .to(float64)")
    for name in NAMES:
        cells = ["yes" if name in known else "-" for known in columns.values()]
        row = "  ".join(cell.ljust(len(title)) for cell, title in zip(cells, columns, strict=True))
        print(f"{name:9}  {row}  {str(getattr(moved, name).dtype).removeprefix('torch.')}")


if __name__ == "__main__":
    main()
