"""Which tool a command asks for in the place of training."""

from argparse import Namespace
from collections.abc import Callable
from functools import partial
from typing import Any

from base.base_trainer import BaseTrainer
from utils.checkpoints.run_dir import folder_of_runs


def tool_of(args: Namespace, save_dir: str, name: str) -> Callable[[BaseTrainer], None] | None:
    """None where the run is to be trained. `save_dir`, `name`: where its run directories are."""
    if args.tool == "replay":
        from base.checks.replay import replay

        return partial(replay, run=args.resume)
    if args.tool == "check":
        from base.checks.check import check

        return partial(_after_preflight, check)
    if args.tool == "profile":
        from base.checks.profile import profile

        return partial(_after_preflight, profile, folder=folder_of_runs(save_dir, name) / "profile")
    if args.overfit:
        from base.checks.overfit import overfit

        return partial(_after_preflight, overfit, count=args.overfit)
    return None


def _after_preflight(tool: Callable[..., None], trainer: BaseTrainer, **options: Any) -> None:
    """What a run refuses to start with, a tool does, too."""
    from base.checks.preflight import check_before_training

    check_before_training(trainer, warns=tool.__name__ != "check")  # which reports the same as problems
    tool(trainer, **options)
