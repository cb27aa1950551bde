"""The checkpoints of a run directory: their names, which one to take, which ones to delete."""

import logging
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from torch import nn

from utils.checkpoints.checkpoint import (
    FORMAT,
    CheckpointError,
    load_checkpoint,
    load_training_checkpoint,
    save_checkpoint,
)
from utils.checkpoints.run_dir import BEST, LAST
from utils.checkpoints.state_dict import fill, find_state_dict
from utils.errors import closest
from utils.files import link_atomically, temporary_files
from utils.paths import shown_path, usable_path

EPOCH, STEP = "epoch", "step"
_NUMBERED = re.compile(rf"checkpoint-({EPOCH}|{STEP})(\d+)\.pth")

log = logging.getLogger(__name__)


def numbered_name(kind: str, number: int) -> str:
    """`checkpoint-epochN.pth`, or `checkpoint-stepN.pth` for one within an epoch."""
    return f"checkpoint-{kind}{number}.pth"


def open_checkpoint(path: str | Path, prefer: str = LAST) -> tuple[Path, dict[str, Any]]:
    """The checkpoint that `-r` means: the file itself; of a run directory the preferred one, or the newest good one.

    `prefer`: `LAST` to go on, `BEST` to score.

    Raises:
        CheckpointError: nothing there to take. A file that is named is never replaced by another one.
    """
    path = usable_path(path).absolute()
    if path.is_dir():
        return _newest_good(path, prefer)
    if not path.exists():
        checkpoints, runs = _names_in(path.parent), _runs_near(path)
        hint = closest(path.name, checkpoints) if checkpoints else closest(shown_path(path), runs) if runs else ""
        hint = hint or f"Working directory: {Path.cwd()}."
        raise CheckpointError(f"{shown_path(path)}: no such run directory or checkpoint. {hint}")
    return path, load_training_checkpoint(path)


def _names_in(folder: Path) -> list[str]:
    """The names of the checkpoints in a folder."""
    return [file.name for file in folder.glob("*.pth") if not file.name.startswith(".")] if folder.is_dir() else []


def _runs_near(path: Path) -> list[str]:
    """The newest run directories beside a path, in folders beside it, or in `saved` there."""
    patterns = (f"*/{LAST}", f"*/*/{LAST}", f"saved/*/*/{LAST}")
    found = (sorted(path.parent.glob(pattern), key=lambda file: file.parent.name) for pattern in patterns)
    return [shown_path(file.parent) for file in next(filter(None, found), [])[-5:]]


def _newest_good(folder: Path, prefer: str) -> tuple[Path, dict[str, Any]]:
    errors: list[CheckpointError] = []
    newest: tuple[Path, dict[str, Any]] | None = None
    for file in _files(folder, prefer):
        try:
            checkpoint = load_training_checkpoint(file)
        except CheckpointError as error:
            errors.append(error)
            continue
        if newest is None or checkpoint["step"] > newest[1]["step"]:
            newest = file, checkpoint
        if file.name == prefer:
            break
    if newest is None:
        raise _nothing_good(folder, errors)
    if prefer == BEST and newest[0].name != BEST:
        newest = _of_the_best_epoch(folder, newest)
    for damage in errors:
        log.warning("%s", damage)
    if errors or (newest[0].name != prefer == BEST and newest[1]["monitor"].get("best_values")):
        log.warning("Taking %s instead, of epoch %d, step %d.", newest[0].name, newest[1]["epoch"], newest[1]["step"])
    return newest


def _of_the_best_epoch(folder: Path, newest: tuple[Path, dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
    """The checkpoint of the epoch that the newest one knows as the best, if it is still there; else the newest."""
    epoch = newest[1]["monitor"].get("best_values", {}).get("epoch", 0)
    file = folder / numbered_name(EPOCH, int(epoch))
    return (file, load_training_checkpoint(file)) if _epoch_in(file) == epoch else newest


def _files(folder: Path, prefer: str) -> Iterator[Path]:
    """The checkpoints in a run directory, the preferred one first; of several names of one file, the first."""
    seen: set[tuple[int, int]] = set()
    numbered = [*_numbered(folder, STEP), *_numbered(folder, EPOCH)]
    for file in (folder / prefer, folder / LAST, *reversed(numbered), folder / BEST):
        if not file.is_file():
            continue
        found = file.stat()
        inode = found.st_dev, found.st_ino
        is_shared = found.st_nlink > 1 and found.st_ino != 0  # some file systems give all files one number
        if not is_shared or inode not in seen:
            seen.add(inode)
            yield file


def _nothing_good(folder: Path, errors: list[CheckpointError]) -> CheckpointError:
    if errors:
        reasons = "\n".join(map(str, errors))
        return CheckpointError(f"{shown_path(folder)}: none of its checkpoints can be used:\n{reasons}")
    runs = sorted(entry.name for entry in folder.iterdir() if (entry / LAST).is_file())
    hint = f"Its newest run is {runs[-1]}." if runs else "A run directory holds one from the start on."
    return CheckpointError(f"{shown_path(folder)}: has no checkpoint. {hint}")


def load_weights(module: nn.Module, path: str | Path, strict: bool = True) -> None:
    """Fill a module from a checkpoint's `model` (of a run directory: its best) or from a plain state_dict.

    `strict`: false takes what fits, with warnings of the rest.

    Raises:
        CheckpointError: the file cannot be used, or the names or shapes do not fit. The module is as before.
    """
    file = usable_path(path)
    if file.is_file():
        content = load_checkpoint(file)
    else:
        file, content = open_checkpoint(path, prefer=BEST)
    if "shards" in content:
        content = whole_checkpoint(file, ["model"])
    source = shown_path(file)
    fill(module, find_state_dict(content, module, source), source, strict)


def whole_checkpoint(path: Path, names: Collection[str] = ()) -> dict[str, Any]:
    """A checkpoint with its tensors in it, those of the named parts at the least, also where they stand in shards.

    Raises:
        CheckpointError: it cannot be used.
    """
    checkpoint = load_training_checkpoint(path)
    if "shards" not in checkpoint:
        return checkpoint
    from utils.checkpoints.sharded_files import DamagedShards, with_tensors

    try:
        whole = with_tensors(checkpoint, names or checkpoint)
    except DamagedShards as error:
        raise CheckpointError(f"{shown_path(path)}: {error}.") from error
    return {name: value for name, value in whole.items() if name != "shards"} | {"format": FORMAT}


def keep_newest(folder: Path, count: int | None) -> None:
    """Delete all but the newest `count` checkpoints of each kind that has a number; None keeps all."""
    for kind in (EPOCH, STEP) if count is not None else ():
        files = _numbered(folder, kind)
        for file in files[: max(0, len(files) - (count or 0))]:
            _delete(file)
    _drop_unused_shards(folder)


def drop_later(folder: Path, epoch: int, step: int) -> None:
    """Going on from there, delete the checkpoints of what came later, and what a kill left half-written."""
    later = [*_numbered(folder, EPOCH, epoch), *_numbered(folder, STEP, step)]
    if later:
        log.info("Deleting what came later: %s", ", ".join(file.name for file in later))
    for file in [*later, *temporary_files(folder)]:
        _delete(file)
    _drop_unused_shards(folder)


def _drop_unused_shards(folder: Path) -> None:
    """Delete the folders of tensors that no checkpoint names any more; none while one cannot be read."""
    if not any(folder.glob("shards-*")):
        return
    from utils.checkpoints.sharded_files import drop_unused

    try:
        named = [load_checkpoint(file).get("shards") for file in folder.glob("*.pth") if file.name != BEST]
    except CheckpointError as error:
        log.warning("%s Until it is gone, no shards are deleted.", error)
        return
    drop_unused(folder, [entry["folder"] for entry in named if entry])


def restore_best(folder: Path, best_epoch: int | None, epoch: int) -> bool:
    """Going on after `epoch`, make `model_best.pth` that of `best_epoch`; False if nothing good of it is left."""
    best = folder / BEST
    found = _epoch_in(best)
    if found == best_epoch or (best_epoch is None and found is not None and found <= epoch):
        return True
    _delete(best)
    kept = folder / numbered_name(EPOCH, best_epoch or 0)
    if best_epoch is not None and _epoch_in(kept) == best_epoch:
        if "shards" in load_checkpoint(kept):
            save_checkpoint(folder, whole_checkpoint(kept), [BEST])
        else:
            link_atomically(kept, best)
        return True
    return best_epoch is None


def _epoch_in(file: Path) -> int | None:
    """The epoch of a checkpoint; None for one that cannot be used, with a warning where it is there."""
    try:
        return load_training_checkpoint(file)["epoch"] if file.is_file() else None
    except CheckpointError as error:
        log.warning("%s", error)
        return None


def _numbered(folder: Path, kind: str, after: int = -1) -> list[Path]:
    """The numbered checkpoints of a kind, in order, those above `after`. Links that lead elsewhere are none."""
    found = {}
    for file in folder.iterdir():
        match = _NUMBERED.fullmatch(file.name)
        if match and match[1] == kind and int(match[2]) > after and file.is_file() and not file.is_symlink():
            found[int(match[2])] = file
    return [found[number] for number in sorted(found)]


def _delete(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s could not be deleted: %s.", shown_path(file), error.strerror)
