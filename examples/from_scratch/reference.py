"""What gradient descent should arrive at: the least-squares solution, beside the weights of runs.

python -m examples.from_scratch.reference RUN [RUN ...] --plot distance.png
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from examples.commands import parser, png
from examples.from_scratch.data import NEIGHBOURS, MiddlePixels
from examples.packages import needed
from examples.pages import epochs_of, picture
from utils.checkpoints.run_checkpoints import open_checkpoint
from utils.errors import UserError
from utils.exit_codes import exit_code_of

ROUNDING = 1e-8  # float32 tells no smaller part of a loss of 0.05


def least_squares(samples: MiddlePixels) -> Tensor:
    """The weights of the neighbours, and the bias, (9,) float64, of the least mean squared error on these samples."""
    return torch.linalg.lstsq(_with_ones(samples), samples.pixels.double()).solution[:, 0]


def error_of(weights: Tensor, samples: MiddlePixels) -> float:
    """The mean squared error of such weights."""
    return (_with_ones(samples) @ weights[:, None] - samples.pixels).square().mean().item()


def _with_ones(samples: MiddlePixels) -> Tensor:
    return torch.cat([samples.neighbours, torch.ones(len(samples), 1)], dim=1).double()


def main(argv: Sequence[str] | None = None) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("runs", nargs="+", metavar="RUN", help="run directory, or checkpoint")
    arguments.add_argument("--plot", type=png, metavar="PNG", help="draw how far each run was from it, epoch by epoch")
    args = arguments.parse_args(argv)
    if args.plot:
        needed("matplotlib")  # asked for now, and not after the table
    solution, files, columns = least_squares(MiddlePixels("train")), [], []
    for run in args.runs:
        file, checkpoint = open_checkpoint(run)
        files.append(file)
        columns.append(weights_in(checkpoint["model"], file))
    for number, file in enumerate(files, start=1):
        print(f"run {number}: {file.parent.name}")
    print("weight of     least squares" + "".join(f"    run {number}" for number in range(1, 1 + len(columns))))
    for i, name in enumerate([*NEIGHBOURS, "bias"]):
        print(f"{name:12}  {solution[i]:13.4f}" + "".join(f"  {weights[i]:7.4f}" for weights in columns))
    distances = "".join(f"  {(weights - solution).abs().max():7.0e}" for weights in columns)
    print(f"{'furthest off':27}{distances}")
    if args.plot:
        draw([file.parent for file in files], error_of(solution, MiddlePixels("train")), args.plot)


def weights_in(model: dict[str, Tensor], file: Path) -> Tensor:
    """Those of a checkpoint, as `least_squares` gives them."""
    if {name: len(values.flatten()) for name, values in model.items()} != {"weight": len(NEIGHBOURS), "bias": 1}:
        raise UserError(f"{file}: is of another model than this example's.")
    return torch.cat([model["weight"][0], model["bias"]]).double()


def draw(run_dirs: Sequence[Path], least: float, path: Path) -> None:
    """The loss of each epoch above the least possible one."""
    with picture(path, size=(5, 3)) as axes:
        for run_dir in run_dirs:
            momentum = json.loads((run_dir / "config.json").read_text(encoding="utf-8"))["optimizer"]["args"].get(
                "momentum", 0
            )
            above = [max(values["loss"] - least, ROUNDING) for values in epochs_of(run_dir)]
            axes.semilogy(range(1, 1 + len(above)), above, label=f"momentum {momentum}")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set(xlabel="epoch", ylabel="loss above the least possible")
        axes.legend()
        axes.grid(alpha=0.3)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
