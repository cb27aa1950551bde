"""A network for the rows of a table. What it knows of the columns is fitted, and saved with the weights."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Preparation(nn.Module):
    """Numbers to mean 0 and standard deviation 1, categories to one column a level. Takes (B, columns), float; gives
    (B, width).

    `categories`: how many levels a column has, by its number; the other columns hold numbers. A level that the training
    rows lack is 0 in all its columns; a number that is the same in all of them is only shifted.
    """

    def __init__(self, columns: int, categories: Mapping[str, int]):
        super().__init__()
        self.categories = {int(column): levels for column, levels in categories.items()}
        self.numbers = [column for column in range(columns) if column not in self.categories]
        self.width = len(self.numbers) + sum(self.categories.values())
        self.mean = nn.Buffer(torch.zeros(len(self.numbers)))
        self.std = nn.Buffer(torch.ones(len(self.numbers)))
        for column, levels in self.categories.items():
            self.register_buffer(f"levels_{column}", torch.full((levels,), torch.nan))

    @torch.no_grad()
    def fit(self, rows: Tensor) -> None:
        """Look at the training rows (N, columns).

        Raises:
            ValueError: a column has more levels than `categories` says.
        """
        std, mean = torch.std_mean(rows[:, self.numbers].double(), dim=0, correction=0)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 0, std, 1))
        for column, most in self.categories.items():
            found = rows[:, column].unique()
            if len(found) > most:
                raise ValueError(f"column {column} has {len(found)} levels in the training rows, not {most}")
            self.get_buffer(f"levels_{column}")[: len(found)] = found

    def forward(self, rows: Tensor) -> Tensor:
        parts = [(rows[:, self.numbers] - self.mean) / self.std]
        for column in self.categories:
            parts.append((rows[:, column, None] == self.get_buffer(f"levels_{column}")).float())
        return torch.cat(parts, dim=1)


class TableNet(nn.Module):
    """Prepared rows through hidden layers with ReLU and dropout. Takes raw rows (B, columns), float32.

    With `num_classes` it gives logits (B, num_classes); without, an estimate (B,) in the units of the targets.
    `fit` it to the training rows before they train it: what that finds are buffers, and stands in every checkpoint.
    """

    def __init__(
        self,
        columns: int,
        categories: Mapping[str, int] | None = None,
        num_classes: int | None = None,
        hidden: tuple[int, ...] = (64, 64),
        dropout: float = 0.2,
    ):
        super().__init__()
        self.preparation = Preparation(columns, categories or {})
        sizes = [self.preparation.width, *hidden]
        self.hidden = nn.ModuleList(nn.Linear(before, after) for before, after in zip(sizes, sizes[1:], strict=False))
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(sizes[-1], num_classes or 1)
        self.num_classes = num_classes
        self.target_mean = nn.Buffer(torch.tensor(0.0))
        self.target_std = nn.Buffer(torch.tensor(1.0))
        self.fitted_rows = nn.Buffer(torch.tensor(0))

    @torch.no_grad()
    def fit(self, rows: Tensor, targets: Tensor) -> None:
        """Look at the training rows (N, columns), and at their targets (N,) where those are to be estimated."""
        self.preparation.fit(rows)
        if self.num_classes is None:
            self.target_mean.copy_(targets.mean())
            self.target_std.copy_(targets.std(correction=0))
        self.fitted_rows.fill_(len(rows))

    def forward(self, rows: Tensor) -> Tensor:
        values = self.preparation(rows)
        for layer in self.hidden:
            values = self.dropout(F.relu(layer(values)))
        outputs = self.output(values)
        return outputs if self.num_classes else outputs[:, 0] * self.target_std + self.target_mean
