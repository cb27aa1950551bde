"""`-r auto`: choose the run that a config continues, or make a new one."""

import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from utils.checkpoints.lock import RunLock
from utils.checkpoints.resume_rules import refused_keys
from utils.checkpoints.run_checkpoints import open_checkpoint
from utils.checkpoints.run_dir import (
    CONFIG,
    RUN_ID,
    create_run_dir,
    folder_of_runs,
    last_job,
    make_folder_of_runs,
    noted_end,
)
from utils.config.loading import Config, load_saved_config, with_long_sections, write_config
from utils.config.options import RunOptions, parse_monitor
from utils.config.plan import Plan
from utils.distributed.processes import from_first
from utils.errors import UserError
from utils.paths import shown_path

AUTO = "auto"
Found = tuple[dict[str, Any] | None, Path | None]
_CHOICE_SECONDS = 60.0  # to wait while another start looks through the runs
log = logging.getLogger(__name__)


def run_of(plan: Plan, lock: RunLock, own_job: str | None = None) -> Found:
    """The newest unfinished run with this config; else the newest; else none. The run is locked.

    `own_job`: considers only runs that this job has started.

    Raises:
        UserError: another process trains there; or the newest run cannot be read.
    """
    found, finished, others = _search(plan, lock, own_job)
    if len(finished) > 1:
        log.info("%d runs in %s are finished.", len(finished), shown_path(finished[0].parent))
    elif finished:
        log.info("%s is finished.", shown_path(finished[0]))
    keys = ", ".join(dict.fromkeys(key for changed in others.values() for key in changed))
    if len(others) > 1:
        where = shown_path(next(iter(others)).parent)
        log.info("%d runs in %s have another config (%s) and are not continued.", len(others), where, keys)
    elif others:
        log.info("%s has another config (%s) and is not continued.", shown_path(*others), keys)
    return found


def _search(plan: Plan, lock: RunLock, own_job: str | None = None) -> tuple[Found, list[Path], dict[Path, list[str]]]:
    """The run that is found; the finished runs; and the runs with another config, with the keys that differ."""
    finished: list[Path] = []
    others: dict[Path, list[str]] = {}
    for run_dir in _runs_of(plan):
        if own_job is not None and last_job(run_dir) != own_job:
            continue
        try:
            changed = _changed_keys(run_dir, plan.config)
        except UserError as error:
            _skip(run_dir, error, is_newest=not finished)
            continue
        if changed:
            others[run_dir] = changed
        elif (end := noted_end(run_dir)) and _is_finished(end, plan.run_options):
            finished.append(run_dir)
        else:
            lock.take(run_dir)  # raises where a process trains there, also before its first checkpoint
            if _has_checkpoint(run_dir):
                file, checkpoint = open_checkpoint(run_dir)
                if not _is_finished(checkpoint, plan.run_options):
                    return (checkpoint, file), finished, others
                finished.append(run_dir)
            lock.release()
    if not finished:
        return (None, None), finished, others
    file, checkpoint = open_checkpoint(lock.take(finished[0]))
    return (checkpoint, file), finished, others


def _skip(run_dir: Path, error: UserError, is_newest: bool) -> None:
    if not _has_checkpoint(run_dir):
        return
    if is_newest:  # it may be the run to continue
        raise UserError(f"{error} Correct it, or move {shown_path(run_dir)} elsewhere to start a new run.") from None
    log.warning("%s This run is skipped.", error)


def _changed_keys(run_dir: Path, config: Config) -> list[str]:
    """The keys that make a run another one. Beside thousands of runs, only those that may match are read with care.

    Raises:
        UserError: the run has no config that can be read.
    """
    with suppress(OSError, ValueError, RecursionError):
        saved = json.loads((run_dir / CONFIG).read_bytes())
        if saved == config:
            return []
        if isinstance(saved, dict) and (changed := refused_keys(with_long_sections(saved), config)):
            return changed
    return refused_keys(load_saved_config(run_dir / CONFIG), config)


def run_of_plan(plan: Plan) -> tuple[Path, dict[str, Any]]:
    """The directory and newest checkpoint of the run that this plan has last gone on with, or ended."""
    with RunLock() as lock:
        checkpoint, file = run_of(plan, lock)
    assert checkpoint is not None and file is not None, "it has just been trained"
    return file.parent, checkpoint


def _has_checkpoint(run_dir: Path) -> bool:
    return any(run_dir.glob("*.pth"))


def new_run_dir(plan: Plan, lock: RunLock, resume_path: str | None) -> Path:
    """Make the directory of a new run, and lock it. Of several starts at once with `-r auto`, one makes a run.

    Raises:
        UserError: the directory cannot be made; or another start has made the run in the meantime.
    """
    save_dir, name = plan.run_options.save_dir, plan.top.name

    def make() -> Path:
        if resume_path != AUTO:
            return lock.take(create_run_dir(save_dir, name))
        with RunLock() as choosing, RunLock() as trying:
            choosing.take(make_folder_of_runs(save_dir, name), _CHOICE_SECONDS)
            if (file := _search(plan, trying)[0][1]) is not None:
                raise UserError(f"{shown_path(file.parent)}: was made by another start in the meantime. Start again.")
            run_dir = lock.take(create_run_dir(save_dir, name))
            with suppress(OSError):  # what cannot be written is reported by the first checkpoint
                write_config(run_dir / CONFIG, plan.config)
            return run_dir

    return from_first(make)


def _runs_of(plan: Plan) -> Iterator[Path]:
    """The run directories of the plan's name, the newest first. A copy under a name of its own is not one."""
    parent = folder_of_runs(plan.run_options.save_dir, plan.config["name"])
    names = [name for name in os.listdir(parent) if RUN_ID.fullmatch(name)] if parent.is_dir() else []
    for name in sorted(names, key=lambda name: [int(part) for part in re.findall(r"\d+", name)], reverse=True):
        yield parent / name


def _is_finished(checkpoint: dict[str, Any], options: RunOptions) -> bool:
    if checkpoint.get("epoch_so_far"):
        return False
    monitor, patience = checkpoint["monitor"], options.early_stop
    waited = monitor.get("epochs_without_improvement", 0)
    is_same_rule = (monitor.get("mode"), monitor.get("name")) == parse_monitor(options.monitor)
    is_patience_over = patience is not None and is_same_rule and waited >= patience
    return checkpoint["epoch"] >= options.epochs or is_patience_over
