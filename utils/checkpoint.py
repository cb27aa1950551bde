"""Checkpoint files: plain tensors and plain values, written whole or not at all, read with `weights_only=True`."""

import io
import pickle
import re
from pathlib import Path
from typing import Any, Protocol

import torch

from utils.errors import UserError, closest
from utils.files import link_atomically, write_under_names
from utils.paths import shown_path

FORMAT = 1
LAST, BEST = "last.pth", "model_best.pth"
_EPOCH_FILE = re.compile(r"checkpoint-epoch(\d+)\.pth")


class Stateful(Protocol):
    """What can stand in a checkpoint: modules, optimizers, schedulers, scalers, your own counters."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


class CheckpointError(UserError):
    """A checkpoint cannot be found, read, or used."""


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU. Never runs code that a file brings along.

    Raises:
        CheckpointError: no such file, or not a file that `torch.save` wrote with plain values in it.
    """
    try:
        # An explicit weights_only wins over TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD.
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{shown_path(path)}: no such checkpoint.") from None
    except (OSError, EOFError, RuntimeError, LookupError, ValueError, TypeError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{shown_path(path)}: not a readable checkpoint ({type(error).__name__}). "
            "It is damaged, or holds more than tensors and plain values. Name another one with -r."
        ) from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"{shown_path(path)}: holds a {type(checkpoint).__name__}, not a checkpoint.")
    return checkpoint


def load_training_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint that a run can continue from, or that has the config to test with.

    Raises:
        CheckpointError: as `load_checkpoint`; or it is bare weights, or from a newer version of this project.
    """
    checkpoint = load_checkpoint(path)
    if "format" not in checkpoint or "config" not in checkpoint:
        raise CheckpointError(
            f"{shown_path(path)}: holds no run, perhaps weights only. To start from weights: "
            "python train.py -c CONFIG --init-from FILE."
        )
    if checkpoint["format"] > FORMAT:
        raise CheckpointError(
            f"{shown_path(path)}: has format {checkpoint['format']}; this version reads up to {FORMAT}. Update it."
        )
    return checkpoint


def load_weights(module: Stateful, path: str | Path) -> None:
    """Fill a module from a checkpoint's `model` (of a run directory: its best) or from a plain state_dict.

    Raises:
        CheckpointError: as `load_checkpoint`; or the names or shapes do not fit the module.
    """
    file = find_checkpoint(path, prefer=BEST)
    checkpoint = load_checkpoint(file)
    load_into("model", module, checkpoint.get("model", checkpoint), shown_path(file))


def load_into(name: str, stateful: Stateful, state: dict[str, Any], source: str) -> None:
    """Give a part its state; what does not fit is one message, with what each side has."""
    try:
        stateful.load_state_dict(state)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{source}: its {name!r} does not fit this config's: {reason}") from error


def find_checkpoint(path: str | Path, prefer: str = LAST) -> Path:
    """The checkpoint file that `-r` means: the file itself, or the one in a run directory.

    `prefer`: `LAST` to go on, `BEST` to score; where a run directory lacks it, the newest one there is.

    Raises:
        CheckpointError: nothing there to take.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return path.absolute()
    if not path.is_dir():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = closest(path.name, siblings) if siblings else f"Working directory: {Path.cwd()}."
        raise CheckpointError(f"{path}: no such run directory or checkpoint. {hint}")
    for candidate in (path / prefer, path / LAST, *reversed(epoch_files(path)), path / BEST):
        if candidate.is_file():
            return candidate.absolute()
    runs = sorted(folder.name for folder in path.iterdir() if (folder / LAST).is_file())
    hint = f"Its newest run is {runs[-1]}." if runs else f"A run directory holds {LAST} once its first epoch is saved."
    raise CheckpointError(f"{path}: has no checkpoint. {hint}")


def epoch_files(folder: Path) -> list[Path]:
    """The `checkpoint-epochN.pth` files of a run directory, by epoch."""
    return sorted((file for file in folder.iterdir() if _EPOCH_FILE.fullmatch(file.name)), key=_epoch_of)


def _epoch_of(file: Path) -> int:
    return int(file.stem.removeprefix("checkpoint-epoch"))


def save_checkpoint(folder: Path, state: dict[str, Any], also: list[str]) -> None:
    """Write a checkpoint once, under the names in `also` and then as `last.pth`.

    In this order a kill in between leaves a `last.pth` that does not know of what the other names hold already; in the
    other, it would count on a best one that is not there.
    """
    write_under_names([folder / name for name in (*also, LAST)], lambda file: torch.save(state, file))


def check_plain(name: str, state: Any) -> None:
    """Raise `CheckpointError` if a part's state could be saved but not loaded again."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    try:
        torch.load(buffer, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        raise CheckpointError(
            f"stateful()[{name!r}]: its state holds more than tensors and plain values"
            f"{f' ({found[1]})' if found else ''}, and could not be loaded again. Turn it into lists and numbers."
        ) from error


def drop_later(folder: Path, epoch: int, best_epoch: int | None) -> None:
    """Going on from `epoch`, delete what a later one left, and give the best that is known there its name again."""
    for file in epoch_files(folder):
        if _epoch_of(file) > epoch:
            file.unlink()
    kept = {_epoch_of(file): file for file in epoch_files(folder)}
    if (folder / BEST).is_file() and load_checkpoint(folder / BEST).get("epoch", 0) > epoch:
        (folder / BEST).unlink()
        if best_epoch in kept:
            link_atomically(kept[best_epoch], folder / BEST)


def epoch_file(epoch: int) -> str:
    return f"checkpoint-epoch{epoch}.pth"


def keep_newest(folder: Path, count: int | None) -> None:
    """Delete all but the newest `count` epoch files; None keeps all."""
    files = epoch_files(folder)
    for file in files[: 0 if count is None else max(0, len(files) - count)]:
        file.unlink(missing_ok=True)
