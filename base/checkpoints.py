"""When a run is saved, under which names, and what happens when it cannot be."""

import json
import logging
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

from base.finite import NonFinite
from base.trainer_like import TrainerLike
from utils.checkpoints.checkpoint import FORMAT_WITH_SHARDS, save_checkpoint
from utils.checkpoints.lock import LostRun, RunLock
from utils.checkpoints.plain import NotPlain, plain
from utils.checkpoints.run_checkpoints import (
    BEST,
    EPOCH,
    LAST,
    STEP,
    drop_later,
    keep_newest,
    numbered_name,
    restore_best,
)
from utils.checkpoints.run_dir import CONFIG, FAILURE, describe_run, note_end
from utils.checkpoints.shard_writer import ShardWriter
from utils.config.options import RunOptions
from utils.disk import why_not_written
from utils.distributed.processes import from_first, is_first
from utils.distributed.shards import Shards, gathered, taken_apart
from utils.distributed.signals import requeue_in_slurm
from utils.errors import BatchError, ConfigError, RunError, Stopped
from utils.files import write_atomically
from utils.paths import shown_path

log = logging.getLogger(__name__)
State = Callable[[], dict[str, Any]]


class Checkpoints:
    """Saves into a run directory: every `save_period` epochs, the best one whenever it comes, and the end; within an
    epoch every `save_steps` and `save_minutes`. Order of calls: `start`, then the others; by all processes of a run
    together, of which the first writes.

    What the processes hold in parts is written as such, in the background; the best one whole, besides, and at once.

    Where a checkpoint cannot be written, the ones before it stay good, and the next is tried as ever; or, with
    `on_save_error` "stop", the run ends. Nothing is written once another process has taken the directory over.
    """

    def __init__(self, run_dir: Path, options: RunOptions, config: dict[str, Any], lock: RunLock):
        self.run_dir = run_dir
        self._lock = lock
        self._options = options
        self._config = config
        self._saved_at = time.monotonic()
        self._shards = ShardWriter()

    def start(self, trainer: TrainerLike, source: Path | None) -> None:
        """Make the directory that of a run which goes on from `source`; None for a new one.

        A new run is saved before its first step: what cannot be saved is found now, and a kill at any time leaves
        something to go on from.

        Raises:
            ConfigError: nothing can be written there.
        """
        is_saved = source is not None and source.name == LAST
        content, shards = ({}, {}) if is_saved else taken_apart(self._content(trainer.state_dict))
        make = self._make(content, shards)
        from_first(lambda: self._start(trainer, source, make))
        self._shards.finish()
        trainer.monitor.load_state_dict(from_first(trainer.monitor.state_dict))

    def _start(self, trainer: TrainerLike, source: Path | None, make: State) -> None:
        content: dict[str, Any] = {}
        try:
            self._lock.claim()
            describe_run(self.run_dir, self._config)
            if content := make():
                save_checkpoint(self.run_dir, content, [LAST], self._lock.check)
            (self.run_dir / FAILURE).unlink(missing_ok=True)
            drop_later(self.run_dir, trainer.epochs_done, trainer.step)
            keep_newest(self.run_dir, self._options.keep_last)
            if not restore_best(self.run_dir, trainer.monitor.best_epoch, trainer.epochs_done):
                log.warning("Nothing good is left of the best epoch: the best from here on takes its place.")
                trainer.monitor.forget()
        except OSError as error:
            if source is None:
                shutil.rmtree(self.run_dir, ignore_errors=True)
            reason = why_not_written(error, self.run_dir, content)
            raise ConfigError(f"trainer.save_dir: {shown_path(self.run_dir)} cannot be written: {reason}.") from error

    def check_lock(self) -> None:
        """Make sure that the directory is still this run's own.

        Raises:
            LostRun: another process has taken it over.
        """
        from_first(self._lock.check)

    def end_epoch(self, state: State, epoch: int, is_best: bool, is_end: bool) -> bool:
        """Save `state()` if the epoch is due; False if that failed, as far as it is known yet."""
        is_due = epoch % self._options.save_period == 0
        if not (is_due or is_best or is_end):
            return True
        is_saved = self._save(state, f"Epoch {epoch}", [numbered_name(EPOCH, epoch)] * is_due + [BEST] * is_best)
        is_finished = not is_end or self._shards.finish()
        if is_end and is_saved and is_finished and is_first():
            with suppress(OSError):  # then `-r auto` reads it from the checkpoint
                note_end(self.run_dir, self._reached)
        return is_saved and is_finished

    def end_step(self, state: State, step: int) -> None:
        """Save `state()` if the step is due, or enough minutes have gone by since the last time."""
        steps, minutes = self._options.save_steps, self._options.save_minutes
        is_late = minutes is not None and from_first(lambda: time.monotonic() - self._saved_at >= 60 * minutes)
        if is_late or (steps is not None and step % steps == 0):
            self._save(state, f"Step {step}", [numbered_name(STEP, step)])

    def interrupt(self, state: State, step: int, reason: Stopped | BatchError) -> None:
        """Save `state()` now, after `step`; and have SLURM start the job again, if that is where the signal is from.

        Raises:
            RunError: it cannot be saved.
        """
        if not (self._save(state, f"Step {step}", []) and self._shards.finish()):
            raise RunError(f"Stopped after step {step}, which is not saved: {reason}") from reason
        log.info("Saved after step %d. To go on: python train.py -r %s", step, shown_path(self.run_dir))
        if isinstance(reason, Stopped) and is_first():
            requeue_in_slurm(reason.by)

    def rescue(self, state: Callable[[], dict[str, Any] | None], epoch: int) -> None:
        """Save the training phase of an epoch when what follows it has failed. Needs no other process, and never
        raises: what has failed is more important."""
        content = state() if is_first() else None
        with suppress(LostRun):
            if content is None or not self._write(lambda: self._content(lambda: content), f"Epoch {epoch}", [LAST]):
                return
            log.info(
                "The training phase of epoch %d is saved. To go on: python train.py -r %s",
                epoch,
                shown_path(self.run_dir),
            )

    def record(self, failure: NonFinite) -> None:
        """Note what `--replay` needs to come to the same failure."""
        if not is_first():
            return
        with suppress(LostRun):
            self._lock.check()
            write_atomically(self.run_dir / FAILURE, json.dumps(failure.record, indent=2).encode())
            log.info(
                "The last checkpoint before is kept. To look: python train.py -r %s --replay", shown_path(self.run_dir)
            )

    def close(self) -> None:
        """Wait for what this process writes in the background."""
        self._shards.close()

    def _save(self, state: State, what: str, names: list[str]) -> bool:
        self._shards.finish()  # of the save before
        try:
            whole = self._content(state)
        except NotPlain as error:
            raise RunError(f"{what} could not be saved: {error} The checkpoints before it are good.") from error
        self._saved_at = time.monotonic()
        content, shards = taken_apart(whole)
        if not shards:
            return from_first(lambda: self._write(lambda: content, what, [*names, LAST]))
        best = gathered(whole) if BEST in names else None
        make, others = self._make(content, shards), [*(name for name in names if name != BEST), LAST]
        self._shards.then(
            lambda: (best is None or self._write(lambda: best, what, [BEST])) and self._write(make, what, others)
        )
        return best is None or self._shards.finish()  # LAST, which names the best, stands right behind it

    def _make(self, content: dict[str, Any], shards: Shards) -> State:
        """What gives a checkpoint, once its shards are written."""
        if not shards:
            return lambda: content
        entry, content = self._shards.begin(self.run_dir, content["step"], shards), deepcopy(content)  # it trains on
        return lambda: content | {"format": FORMAT_WITH_SHARDS, "shards": entry()}

    def _write(self, make: State, what: str, names: list[str]) -> bool:
        content: dict[str, Any] = {}
        try:
            self._lock.check()
            if not (self.run_dir / CONFIG).is_file():
                log.warning("%s was deleted, and is made again.", shown_path(self.run_dir))
                self.run_dir.mkdir(parents=True, exist_ok=True)
                self._lock.check()
                describe_run(self.run_dir, self._config)
            content = make()
            save_checkpoint(self.run_dir, content, names, self._lock.check)
            if LAST in names:  # or else what it is about to name would go
                self._reached = {key: content.get(key) for key in ("epoch", "monitor")}
                keep_newest(self.run_dir, self._options.keep_last)
        except OSError as error:
            reason = why_not_written(error, self.run_dir, content)
            message = f"{what} could not be saved in {shown_path(self.run_dir)}: {reason}."
            if self._options.on_save_error == "stop":
                raise RunError(message) from error
            log.error("%s The checkpoints before it are good; the next one is tried as ever.", message)
            return False
        return True

    def _content(self, state: State) -> dict[str, Any]:
        return plain(state()) | {"config": self._config}
