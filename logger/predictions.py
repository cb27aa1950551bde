"""What a model gives for each sample of a split, as a table."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from utils.errors import UserError
from utils.files import write_named_file

MOST_COLUMNS = 1000  # of a table that is still one


class Predictions:
    """One of the metrics of a phase; keeps what they are given: outputs and targets (B, ...).

    Order of calls: `reset`, then for each batch `update`, once, and `end_batch`.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._outputs: list[Tensor] = []
        self._targets: list[Tensor] = []
        self._batches = 0

    def update(self, output: Any, target: Any) -> None:
        are_rows = all(isinstance(tensor, Tensor) and tensor.dim() for tensor in (output, target))
        if not are_rows or len(output) != len(target):
            raise UserError("--predictions: the metrics are given no tensors with an entry for each sample.")
        if max(output[:1].numel(), target[:1].numel()) > MOST_COLUMNS:
            raise UserError(f"--predictions: the metrics are given more than {MOST_COLUMNS:,} numbers for each sample.")
        self._outputs.append(output.detach().cpu().reshape(len(output), -1))
        self._targets.append(target.detach().cpu().reshape(len(target), -1))

    def end_batch(self, samples: int) -> None:
        """Check that a batch of so many samples has given a row for each.

        Raises:
            UserError: it has not, and no row could be said to be of a sample.
        """
        self._batches += 1
        if not self._outputs:
            raise UserError("--predictions: this trainer gives no outputs to its metrics.")
        if len(self._outputs) != self._batches:
            raise UserError(
                "--predictions: valid_step gives its metrics outputs more than once for a batch, or not each time. "
                "Call self.metrics(outputs, targets) once, with the outputs that count."
            )
        if len(self._outputs[-1]) != samples:
            raise UserError(
                f"--predictions: the metrics are given {len(self._outputs[-1])} rows for a batch of {samples} samples. "
                "The first dimension of outputs and targets must be the samples."
            )

    def compute(self) -> Tensor:
        """How many there are."""
        return torch.tensor(sum(map(len, self._outputs)))

    def write(self, path: Path, rows: Sequence[int] | None = None) -> None:
        """As CSV: `sample,target,output`, or `output_0,...` and, where targets are classes, `prediction`.

        Numbers are written so that they can be read back exactly. `rows`: the numbers of the samples, where
        they do not count from 0.
        """
        outputs, targets = torch.cat(self._outputs), torch.cat(self._targets)
        are_classes = not targets.is_floating_point() and targets.shape[1] == 1 and outputs.shape[1] > 1
        head = ["sample", *_names("target", targets.shape[1]), *["prediction"] * are_classes]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*head, *_names("output", outputs.shape[1])])
        numbers = range(len(outputs)) if rows is None else rows
        for number, target, output in zip(numbers, targets.tolist(), outputs.tolist(), strict=True):
            best = [max(range(len(output)), key=output.__getitem__)] * are_classes
            writer.writerow([int(number), *target, *best, *output])
        write_named_file(path, text.getvalue().encode())


def _names(name: str, count: int) -> list[str]:
    return [name] if count == 1 else [f"{name}_{i}" for i in range(count)]
