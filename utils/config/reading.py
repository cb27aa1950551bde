"""The config that a command names."""

from collections.abc import Sequence

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
