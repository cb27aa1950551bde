"""Tables for the screen: a row for each epoch, the best epoch, and matrices."""

from torch import Tensor

MOST_ROWS = 30  # of a matrix that is printed as a whole
# Values of an epoch that describe the run rather than what it learned.
RUN_VALUES = ("epoch", "step", "grad_norm", "seconds", "items_per_second", "data_wait_share")
VALID = "val_"
MOST_COLUMNS = 12  # of values that the model has learned
_ALWAYS = ("epoch", "lr", "items/s", "wait", "s")


def is_learned(name: str) -> bool:
    """Whether a value of an epoch comes from a step, and so may have a twin in validation."""
    return name not in RUN_VALUES and not is_learning_rate(name)


def is_learning_rate(name: str) -> bool:
    return name == "lr" or name.startswith("lr_")


class EpochTable:
    """Rows as the epochs come. The columns are those of the first one; `train/valid` share a cell."""

    def __init__(self) -> None:
        self._widths: dict[str, int] = {}

    def lines(self, values: dict[str, float], is_best: bool) -> list[str]:
        """The row of an epoch, below the head where it is the first."""
        cells = _cells(values)
        learned = [name for name in cells if name not in _ALWAYS]
        hidden = set(learned[MOST_COLUMNS:])
        cells = {name: cell for name, cell in cells.items() if name not in hidden}
        lines = []
        if not self._widths:
            self._widths = {name: max(len(name), len(cell)) for name, cell in cells.items()}
            head = "  ".join(name.rjust(width) for name, width in self._widths.items())
            lines = [head, "-" * len(head)]
            if hidden:
                lines.insert(0, f"{len(hidden)} more values of each epoch are in metrics.jsonl.")
        row = "  ".join(cells.get(name, "").rjust(width) for name, width in self._widths.items())
        return [*lines, f"{row}  best" if is_best else row]


def _cells(values: dict[str, float]) -> dict[str, str]:
    cells = {"epoch": f"{values['epoch']:.0f}"}
    for name, value in values.items():
        if not is_learned(name):
            continue
        if name.startswith(VALID):
            if name.removeprefix(VALID) not in values:
                cells[name] = f"{value:.4f}"
        elif VALID + name in values:
            cells[name] = f"{value:.4f}/{values[VALID + name]:.4f}"
        else:
            cells[name] = f"{value:.4f}"
    if "lr" in values:
        cells["lr"] = f"{values['lr']:.3g}"
    cells["items/s"] = f"{values['items_per_second']:,.0f}"
    cells["wait"] = f"{values['data_wait_share']:.0%}"
    cells["s"] = f"{values['seconds']:.1f}"
    return cells


def value_table(values: dict[str, float]) -> str:
    """Name and value, a line each."""
    width = max(map(len, values), default=0)
    return "\n".join(f"{name.ljust(width)}  {value:.6g}" for name, value in values.items())


def matrix_table(matrix: Tensor) -> str:
    """A matrix of targets (rows) by outputs (columns), numbered; zeros are dots, so that the rest can be seen. Of more
    than `MOST_ROWS` only the most frequent confusions."""
    if max(matrix.shape) > MOST_ROWS:
        return _confusion_table(matrix)
    row_title, column_title = "target", "output"
    cells = [["." if value == 0 else f"{value:g}" for value in row] for row in matrix.to_dense().tolist()]
    columns = len(cells[0]) if cells else 0
    width = max([len(cell) for row in cells for cell in row] + [len(str(columns - 1))])
    label = max(len(row_title), len(str(len(cells) - 1)))
    head = row_title.rjust(label) + "  " + " ".join(str(column).rjust(width) for column in range(columns))
    rows = [str(i).rjust(label) + "  " + " ".join(cell.rjust(width) for cell in row) for i, row in enumerate(cells)]
    return "\n".join([" " * (label + 2) + column_title, head, *rows])


def _confusion_table(matrix: Tensor) -> str:
    """The largest entries off the diagonal, a line each. Row by row: a matrix of 10,000 classes is large."""
    found: list[tuple[float, int, int]] = []
    for target, row in enumerate(matrix.cpu()) if not matrix.is_sparse else ():
        least = found[-1][0] if len(found) == MOST_ROWS else 0
        outputs = (row > least).nonzero().flatten().tolist()
        found += [(row[output].item(), target, output) for output in outputs if output != target]
        found = sorted(found, key=lambda entry: (-entry[0], *entry[1:]))[:MOST_ROWS]
    if matrix.is_sparse:
        found = _largest_entries(matrix.cpu().coalesce())
    lines = [f"{target:6}  {output:6}  {count:g}" for count, target, output in found]
    return "\n".join([f"the {len(found)} most frequent confusions", "target  output  count", *lines])


def _largest_entries(matrix: Tensor) -> list[tuple[float, int, int]]:
    """Those above zero and off the diagonal of a sparse matrix: (count, target, output), the largest first."""
    (targets, outputs), counts = matrix.indices(), matrix.values()
    is_confusion = (targets != outputs) & (counts > 0)
    targets, outputs, counts = targets[is_confusion], outputs[is_confusion], counts[is_confusion]
    order = counts.argsort(descending=True, stable=True)[:MOST_ROWS]
    return list(zip(counts[order].tolist(), targets[order].tolist(), outputs[order].tolist(), strict=True))
