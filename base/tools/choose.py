"""Which tool a command asks for in the place of training."""

from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path

from base.base_trainer import BaseTrainer


def tool_of(args: Namespace, runs_dir: Path) -> Callable[[BaseTrainer], None] | None:
    """None where the run is to be trained. `runs_dir`: where its run directories are."""
    if args.tool == "replay":
        from base.tools.replay import replay

        return partial(replay, run=args.resume)
    if args.tool == "check":
        return _check
    if args.tool == "profile":
        from base.tools.profile import profile

        return partial(profile, folder=runs_dir / "profile")
    if args.overfit:
        from base.tools.overfit import overfit

        return partial(overfit, count=args.overfit)
    return None


def _check(trainer: BaseTrainer) -> None:
    from base.preflight import check_before_training
    from base.tools.check import check

    check_before_training(trainer)
    check(trainer)
