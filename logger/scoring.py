"""The values of a checkpoint on a split: what `test.py` prints, and what `--folds` predicts."""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from utils.encoding import print_visible
from utils.errors import UserError


def score(build_trainer: Callable[..., Any], args: Namespace) -> None:
    """Evaluate and print. `args`: of test.py.

    Raises:
        UserError: there is no such checkpoint, split or folder.
    """
    from torch import nn  # here: `--help` needs none of it

    from logger.console import messages_to_screen
    from logger.predictions import Predictions
    from utils.checkpoints.resume import plan_to_score
    from utils.distributed.devices import select_devices
    from utils.distributed.processes import connected, is_first
    from utils.paths import shown_path, usable_path

    path_of_predictions = usable_path(args.predictions or "").absolute()
    if not path_of_predictions.parent.is_dir():
        raise UserError(f"--predictions: there is no folder {path_of_predictions.parent}.")
    if args.predictions and path_of_predictions.is_dir():
        raise UserError(f"--predictions: {path_of_predictions} is a folder. Name a file in it.")
    with messages_to_screen(), connected(), plan_to_score(args.resume, args.set) as (plan, checkpoint, path):
        devices = select_devices(plan.top.n_gpu, args.device, plan.parallel.build())
        trainer = build_trainer(plan, devices, [args.split])
        if args.split not in trainer.run.batches:
            raise UserError(f"--split {args.split}: the data set has no samples there.")
        trainer.load_state_dict(checkpoint, shown_path(path), names=trainer.parts(nn.Module))
        if args.predictions:
            predictions = trainer.metrics.objects["--predictions"] = Predictions()
        values = trainer.evaluate(args.split)
        if args.predictions:
            dataset = trainer.run.batches[args.split].dataset
            _write(predictions, path_of_predictions, getattr(dataset, "sample_numbers", None))
            del values["--predictions"]
    if is_first():
        print_visible(f"{shown_path(path)}, epoch {checkpoint['epoch']}, split {args.split}")
        _print_values(values)


def _write(predictions: Any, path: Path, rows: Any) -> None:
    try:
        predictions.write(path, rows)
    except OSError as error:
        raise UserError(f"--predictions: {path} cannot be written: {error.strerror}.") from error


def _print_values(values: dict[str, Any]) -> None:
    from torch import Tensor

    from logger.tables import matrix_table
    from logger.writers import to_json

    for name, value in values.items():
        if isinstance(value, Tensor) and value.dim() == 2:
            print_visible(f"\n{name}\n{matrix_table(value)}")
    print(to_json({name: value for name, value in values.items() if not isinstance(value, Tensor)}))
