"""When a run is saved, and under which names."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from utils.checkpoint import BEST, epoch_file, keep_newest, save_checkpoint
from utils.options import RunOptions

log = logging.getLogger(__name__)


class Checkpoints:
    """Saves into a run directory: every `save_period` epochs, the best one whenever it comes, and the end."""

    def __init__(self, run_dir: Path, options: RunOptions, config: dict[str, Any]):
        self._run_dir = run_dir
        self._options = options
        self._config = config

    def save(self, state: Callable[[], dict[str, Any]], epoch: int, is_best: bool, is_end: bool) -> bool:
        """Save `state()` if the epoch is due; False if that failed. The checkpoints before it stay good."""
        is_due = epoch % self._options.save_period == 0
        if not (is_due or is_best or is_end):
            return True
        also = [epoch_file(epoch)] * is_due + [BEST] * is_best
        content = state() | {"config": self._config}
        try:
            save_checkpoint(self._run_dir, content, also)
            keep_newest(self._run_dir, self._options.keep_last)
        except (OSError, RuntimeError) as error:  # torch wraps a full disk in a RuntimeError
            log.error("Epoch %d could not be saved in %s: %s", epoch, self._run_dir, error)
            return False
        return True
