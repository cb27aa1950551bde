"""Where a run comes from: a config, or an earlier start of it; and what of a config may change in between."""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from utils.checkpoint import CheckpointError, load_training_checkpoint
from utils.config.frame import with_defaults
from utils.config.loading import Config, changed_keys, check_saved_config, load_saved_config
from utils.config.overrides import override
from utils.config.places import Place, Places
from utils.config.plan import Plan, make_plan
from utils.distributed import from_first, is_restarted, job
from utils.errors import ConfigError, UserError
from utils.lock import RunLock
from utils.options import RunOptions, parse_monitor
from utils.paths import shown_path, usable_path
from utils.run_checkpoints import BEST, open_checkpoint
from utils.run_dir import CONFIG, LOG, folder_of_runs, is_run_dir, last_job

AUTO = "auto"
Found = tuple[dict[str, Any] | None, Path | None]
Source = tuple[Plan, dict[str, Any] | None, Path | None]
log = logging.getLogger(__name__)


def read_source(
    config: Config | None,
    resume_path: str | None,
    assignments: Sequence[str],
    lock: RunLock,
    places: Places,
    init_from: str | None = None,
) -> Source:
    """The plan; and, to go on with a run, the checkpoint and its file. The run's directory is locked then.

    `config`: what `-c` gave, with the assignments in it; None with the path of a run.

    Raises:
        UserError: a file cannot be used, or the config not be followed; or another process is training there.
    """
    if config is not None:
        plan = make_plan(config, places)
        own_job = job() if is_restarted() and resume_path != AUTO else None
        goes_on = resume_path == AUTO or own_job is not None
        found = _on_every_rank(lambda: _run_of(plan, lock, own_job)) if goes_on else (None, None)
        if init_from and found[1] is not None:
            log.warning("--init-from is not used: there is a run to go on with, from its own weights.")
        return plan, *found
    assert resume_path is not None, "argparse asks for one of them"
    path = usable_path(resume_path).absolute()
    folder = path if path.is_dir() else path.parent
    if is_run_dir(folder):
        lock.take(folder)
    checkpoint, file = _on_every_rank(lambda: open_checkpoint(path)[::-1])
    assert checkpoint is not None and file is not None, "or it would have raised"
    if not is_run_dir(folder) and (folder / LOG).is_file():
        raise CheckpointError(
            f"{shown_path(folder / CONFIG)}: is missing. The checkpoints hold a copy: "
            f"the entry 'config' of {shown_path(file)}."
        )
    if not is_run_dir(folder):
        raise CheckpointError(
            f"{shown_path(file)}: lies in no run directory, so there is no run to continue. "
            "To start a new one from its weights: python train.py -c CONFIG --init-from FILE."
        )
    plan = make_plan(override(load_saved_config(folder / CONFIG, places), assignments, places), places)
    refuse_changes(checkpoint["config"], plan.config)
    return plan, checkpoint, file


def _on_every_rank(find: Callable[[], Found]) -> Found:
    """What the first process finds, read by the others, too: by themselves they might find something else."""
    found: list[Found] = []

    def file() -> Path | None:
        found.append(find())
        return found[0][1]

    path = from_first(file)
    return found[0] if found else (load_training_checkpoint(path), path) if path else (None, None)


def _run_of(plan: Plan, lock: RunLock, own_job: str | None = None) -> Found:
    """Of the runs that this plan could go on with, the newest unfinished one; else the newest; else none. With a job,
    only those that this one has started itself."""
    others: dict[Path, list[str]] = {}
    try:
        return _newest_of(plan, lock, own_job, others)
    finally:
        keys = ", ".join(dict.fromkeys(key for changed in others.values() for key in changed))
        if len(others) > 1:
            where = shown_path(next(iter(others)).parent)
            log.info("%d runs in %s have another config (%s) and are left alone.", len(others), where, keys)
        elif others:
            log.info("%s has another config (%s) and is left alone.", shown_path(*others), keys)


def _newest_of(plan: Plan, lock: RunLock, own_job: str | None, others: dict[Path, list[str]]) -> Found:
    """`others`: is given the runs that are passed by, and what of their config differs."""
    finished: Found = None, None
    for run_dir in _runs_of(plan):
        if own_job is not None and last_job(run_dir) != own_job:
            continue
        try:
            changed = refused_keys(load_saved_config(run_dir / CONFIG), plan.config)
        except UserError as error:
            if finished[1] is None:  # it may be the one to go on with
                raise UserError(f"{error} Mend it, or move {shown_path(run_dir)} elsewhere to start anew.") from None
            log.warning("%s It is passed over.", error)
            continue
        if changed:
            others[run_dir] = changed
            continue
        lock.take(run_dir)
        file, checkpoint = open_checkpoint(run_dir)
        if not _is_finished(checkpoint, plan.run_options):
            return checkpoint, file
        lock.release()
        log.info("%s is finished.", shown_path(run_dir))
        if finished[1] is None:
            finished = checkpoint, file
    if finished[1] is not None:
        lock.take(finished[1].parent)
    return finished


def run_of_plan(plan: Plan) -> tuple[Path, dict[str, Any]]:
    """The directory and newest checkpoint of the run that this plan has last gone on with, or ended."""
    with RunLock() as lock:
        checkpoint, file = _run_of(plan, lock)
    assert checkpoint is not None and file is not None, "it has just been trained"
    return file.parent, checkpoint


def _runs_of(plan: Plan) -> Iterator[Path]:
    """The run directories of the plan's name that hold a checkpoint, the newest first."""
    parent = folder_of_runs(plan.run_options.save_dir, plan.config["name"])
    runs = [folder for folder in parent.iterdir() if any(folder.glob("*.pth"))] if parent.is_dir() else []
    yield from sorted(runs, key=lambda folder: [int(part) for part in re.findall(r"\d+", folder.name)], reverse=True)


def _is_finished(checkpoint: dict[str, Any], options: RunOptions) -> bool:
    if checkpoint.get("epoch_so_far"):
        return False
    monitor, patience = checkpoint["monitor"], options.early_stop
    waited = monitor.get("epochs_without_improvement", 0)
    is_same_rule = (monitor.get("mode"), monitor.get("name")) == parse_monitor(options.monitor)
    is_patience_over = patience is not None and is_same_rule and waited >= patience
    return checkpoint["epoch"] >= options.epochs or is_patience_over


@contextmanager
def plan_to_score(path: str, assignments: Sequence[str]) -> Iterator[tuple[Plan, dict[str, Any], Path]]:
    """The plan of a run or checkpoint, the checkpoint and its file; mistakes found in the block get their places."""
    with Places() as places:
        file, checkpoint = open_checkpoint(path, prefer=BEST)
        yield make_plan(saved_config(file, checkpoint, assignments, places), places), checkpoint, file


def saved_config(
    checkpoint_path: Path, checkpoint: dict[str, Any], assignments: Sequence[str], places: Places
) -> Config:
    """The config beside a checkpoint; or, for a file that was carried elsewhere, the one inside it, which may name
    only what a bare name finds: a stranger's file decides nothing about which of your modules is imported.

    Raises:
        ConfigError: it names something else, and the assignments do not.
    """
    folder = checkpoint_path.parent
    if is_run_dir(folder):
        return override(load_saved_config(folder / CONFIG, places), assignments, places)
    places.record("", Place(shown_path(checkpoint_path)))
    check_saved_config(checkpoint["config"], places)
    config = override(checkpoint["config"], assignments, places)
    given = {assignment.partition("=")[2] for assignment in assignments}
    mistakes = [
        f"{where}: the checkpoint itself names {name!r}, in a module of yours. If you trust it: --set {where}={name}"
        for where, name in _dotted_names(config)
        if name not in given and not where.startswith(NO_NAMES)
    ]
    if mistakes:
        raise ConfigError(*mistakes)
    return config


NO_NAMES = ("model.freeze", "model.weights", "optimizer.groups")  # what may look like one there is looked up nowhere


def _dotted_names(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a config that could be looked up below the project's root, and its key."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _dotted_names(item, f"{where}.{key}".lstrip("."))
    if isinstance(value, str) and "." in value and all(part.isidentifier() for part in value.split(".")):
        yield where, value


# What a resumed run may change. Everything else decides what is computed, and would make it another run.
MAY_CHANGE_ON_RESUME = (
    "n_gpu",
    "trainer.epochs",
    "trainer.save_period",
    "trainer.save_steps",
    "trainer.save_minutes",
    "trainer.on_save_error",
    "trainer.on_non_finite",
    "trainer.keep_last",
    "trainer.monitor",
    "trainer.min_delta",
    "trainer.early_stop",
    "trainer.tensorboard",
    "trainer.log_steps",
    "trainer.histogram_period",
    "data_loader.num_workers",
    "data_loader.pin_memory",
    "data_loader.prefetch_factor",
    "data_loader.persistent_workers",
    "data_loader.timeout",
    "data_loader.multiprocessing_context",
    "parallel",
    "dataset.args.data_dir",
    "trainer.args.micro_batch_size",
    "trainer.args.activation_checkpointing",
    "trainer.args.compile",
)


def refused_keys(old: Config, new: Config) -> list[str]:
    """The keys that differ and that a resumed run cannot follow."""
    may_change = set(MAY_CHANGE_ON_RESUME)
    if (new["lr_scheduler"] or {}).get("type") == "ReduceLROnPlateau":
        may_change -= {"trainer.monitor"}  # it goes on comparing with the best of the old value
    changed = changed_keys(with_defaults(old), new)
    return [key for key in changed if key not in may_change and not key.startswith("parallel.")]


def refuse_changes(old: Config, new: Config) -> None:
    """Name each key that differs and that a resumed run cannot follow.

    Raises:
        ConfigError: there is one.
    """
    if refused := refused_keys(old, new):
        raise ConfigError(
            *(
                f"{key}: cannot change when a run is resumed: what its old value led to is in the checkpoint."
                for key in refused
            ),
            f"These can: {', '.join(MAY_CHANGE_ON_RESUME)}. "
            "For a new run from these weights: python train.py -c CONFIG --init-from CHECKPOINT.",
        )
