"""The config that a command names."""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from utils.config.fast_dev_run import fast_dev_run
from utils.config.frame import check_frame
from utils.config.loading import Config, load_config
from utils.config.overrides import override
from utils.config.places import Places


def read_config(path: str, assignments: Sequence[str], places: Places) -> Config:
    """A config of the user's own with the assignments in it, its top checked. Imports nothing heavy, so that typing
    errors show at once.

    Raises:
        UserError: it cannot be read, or its top is wrong.
    """
    config = override(load_config(path, places), assignments, places)
    check_frame(config, places)
    return config


@contextmanager
def config_of(args: Namespace) -> Iterator[tuple[Config | None, Places]]:
    """The config that the arguments of a command name, None for that of a run; with the places of its values, by which
    mistakes that are found in the block are located."""
    with Places() as places, fast_dev_run(args.tool == "fast-dev-run") as assignments:
        yield read_config(args.config, [*args.set, *assignments], places) if args.config else None, places
