"""The writers of a run: the config's choice, each imported only where it is used."""

import logging
from pathlib import Path
from typing import Any

from logger.writers import JSONLWriter, Writer, Writers
from utils.checkpoints.run_dir import METRICS
from utils.distributed.processes import is_first

log = logging.getLogger(__name__)


def open_writers(run_dir: Path, tensorboard: bool, config: dict[str, Any], epoch: int, step: int) -> Writers:
    """Writers that go on after `epoch` and `step`, with nothing that an earlier start wrote behind them; none for a
    process that is not the first of its run."""
    if not is_first():
        return Writers()
    writers: list[Writer] = [JSONLWriter(run_dir / METRICS, after_epoch=epoch)]
    if tensorboard:
        try:
            from logger.tensorboard import TensorBoardWriter

            writers.append(TensorBoardWriter(run_dir, config, epoch, step))
        except (ImportError, OSError, RuntimeError) as error:  # RuntimeError: no thread can be started
            log.warning("No TensorBoard events will be written: %s", error)
    return Writers(*writers)
