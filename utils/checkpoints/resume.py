"""Where a run starts from: a config, or a checkpoint of an earlier start."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from utils.checkpoints.auto import AUTO, Found, run_of
from utils.checkpoints.checkpoint import CheckpointError, load_training_checkpoint
from utils.checkpoints.foreign_config import check_arguments, check_size_of_model, harmless, without_download
from utils.checkpoints.lock import RunLock
from utils.checkpoints.resume_rules import WHERE_A_RUN_IS, in_this_version, refuse_changes
from utils.checkpoints.run_checkpoints import BEST, open_checkpoint
from utils.checkpoints.run_dir import CONFIG, LOG, is_run_dir
from utils.config.loading import Config, changed_keys, check_saved_config, load_saved_config
from utils.config.overrides import override
from utils.config.places import Place, Places
from utils.config.plan import Plan, make_plan
from utils.distributed.processes import from_first, is_restarted, job
from utils.errors import ConfigError
from utils.paths import shown_path, usable_path

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
        found = _on_every_rank(lambda: run_of(plan, lock, own_job)) if goes_on else (None, None)
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
    saved = in_this_version(load_saved_config(folder / CONFIG, places))
    config = override(saved, assignments, places)
    if moved := [key for key in changed_keys(saved, config) if key in WHERE_A_RUN_IS]:
        reason = (
            "cannot change when a run is resumed: it stays in its directory. Move the directory, and name it with -r."
        )
        raise ConfigError(*(f"{key}: {reason}" for key in moved))
    plan = make_plan(config, places)
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


@contextmanager
def plan_to_score(path: str, assignments: Sequence[str]) -> Iterator[tuple[Plan, dict[str, Any], Path]]:
    """The plan of a run or checkpoint, the checkpoint and its file; mistakes found in the block get their places."""
    with Places() as places:
        file, checkpoint = open_checkpoint(path, prefer=BEST)
        plan = make_plan(saved_config(file, checkpoint, assignments, places), places)
        if not is_run_dir(file.parent):
            given = [assignment.partition("=")[0] for assignment in assignments]
            plan = without_download(plan, given)
            check_size_of_model(plan, checkpoint, shown_path(file), given)
        yield plan, checkpoint, file


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
        return override(in_this_version(load_saved_config(folder / CONFIG, places)), assignments, places)
    places.record("", Place(shown_path(checkpoint_path)))
    check_saved_config(checkpoint["config"], places)
    config = override(harmless(in_this_version(checkpoint["config"])), assignments, places)
    check_arguments(config, [assignment.partition("=")[0] for assignment in assignments])
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
