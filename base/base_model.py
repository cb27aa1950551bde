"""Optional base of a model, and the summary of any module."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from torch import Tensor, nn

from utils.disk import readable_size
from utils.distributed.shards import class_name

MOST_ROWS = 100  # of a summary


class BaseModel(nn.Module):
    """An `nn.Module` that can describe itself: `print(model.summary())`."""

    def summary(self) -> str:
        return summary(self)


def summary(model: Any) -> str:
    """A table of a module's children: parameters, trainable ones, buffers, and bytes in a checkpoint."""
    rows = [("module", "type", "parameters", "trainable", "buffers", "saved")]
    for name, module in islice(_children(model), MOST_ROWS):
        rows.append((name, class_name(module), *_numbers(module, recurse=name != "(own)")))
    if (count := sum(1 for _ in _children(model))) > MOST_ROWS:
        rows.append((f"({count - MOST_ROWS:,} more)", "", "", "", "", ""))
    rows.append(("total", class_name(model), *_numbers(model)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_line(row, widths) for row in rows]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def _children(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    if any(True for _ in model.parameters(recurse=False)) or any(True for _ in model.buffers(recurse=False)):
        yield "(own)", model
    yield from model.named_children()


def _numbers(module: nn.Module, recurse: bool = True) -> tuple[str, str, str, str]:
    parameters = list(module.parameters(recurse))
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    saved = module.state_dict() if recurse else module.state_dict(keep_vars=True)
    own = saved.items() if recurse else ((key, value) for key, value in saved.items() if "." not in key)
    size = sum(value.numel() * value.element_size() for _, value in own if isinstance(value, Tensor))
    return (
        f"{_count(parameters):,}",
        f"{_count(trainable):,}",
        f"{_count(module.buffers(recurse)):,}",
        readable_size(size),
    )


def _count(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors)


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    cells = [
        cell.ljust(width) if i < 2 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells)
