"""Checkpoint files: plain tensors and plain values, sealed, and read with `weights_only=True` alone."""

import errno
import io
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch

from utils.checkpoints.checksum import is_intact, write_sealed
from utils.checkpoints.pickle_scan import HarmfulPickle, check_pickles
from utils.checkpoints.plain import plain, restored
from utils.errors import UserError
from utils.files import write_under_names
from utils.paths import shown_path

FORMAT = 2  # 1 had no seal, and no position within an epoch
FORMAT_WITH_SHARDS = 3  # its tensors are in a folder beside it
_KEYS = ("epoch", "step", "model", "monitor", "batches", "rng", "config")


class Stateful(Protocol):
    """Anything that a checkpoint can contain: modules, optimizers, schedulers, scalers, your own counters."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


class CheckpointError(UserError):
    """A checkpoint cannot be found, read, or used."""


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU. Never runs code that a file brings along, nor trusts one whose bits have changed.

    Raises:
        CheckpointError: no such file; it is damaged; or it holds more than tensors and plain values.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # to open a FIFO would wait, to read a device might not end
            raise IsADirectoryError
        is_sealed = _check_bytes(path)
        checkpoint = _load(path)
    except FileNotFoundError:
        raise CheckpointError(f"{shown_path(path)}: no such checkpoint.") from None
    except IsADirectoryError:
        what = "a folder. Name a checkpoint in it" if path.is_dir() else "not a regular file. Name a checkpoint file"
        raise CheckpointError(f"{shown_path(path)}: {what}.") from None
    except Exception as error:  # whatever a parser may meet in bytes that anybody may have written
        is_told = isinstance(error, (_Damaged, HarmfulPickle))
        raise _unusable(path, str(error) if is_told else type(error).__name__) from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"{shown_path(path)}: holds a {type(checkpoint).__name__}, not a checkpoint.")
    if not is_sealed and checkpoint.get("format", 1) in range(2, FORMAT_WITH_SHARDS + 1):
        raise _unusable(path, "its checksum is missing")
    return checkpoint


class _Damaged(Exception):
    """The bytes are not those that were written."""


def _unusable(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{shown_path(path)}: not a readable checkpoint ({reason}). It is damaged, or another program wrote it, or it "
        "holds more than tensors and plain values. Name another one, or a run directory to take its newest good one."
    )


def _check_bytes(path: Path) -> bool:
    """Check all that a file says about itself; whether it has a checksum, as each file that this project writes."""
    intact = is_intact(path)
    if intact is False:
        raise _Damaged("its checksum does not match")
    with open(path, "rb") as file:
        is_archive = file.read(4) == b"PK\x03\x04"
    if is_archive:  # else from torch before 1.6, which knew no checksums
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > path.stat().st_size:
                raise _Damaged("it unpacks to more than it is")
            if intact is None and archive.testzip() is not None:
                raise _Damaged("a checksum in it does not match")
    if path.suffix != ".safetensors":  # which has no pickle; torch lets the library of that name read it
        with open(path, "rb") as file:
            check_pickles(file)
    return intact is True


def _load(source: Path | io.BytesIO) -> Any:
    # An explicit weights_only wins over TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD.
    return torch.load(source, map_location="cpu", weights_only=True)


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
    if checkpoint["format"] not in range(1, FORMAT_WITH_SHARDS + 1):
        raise CheckpointError(
            f"{shown_path(path)}: has format {checkpoint['format']}; this version reads up to {FORMAT_WITH_SHARDS}. "
            "Update it."
        )
    wrong = [key for key in ("config", "monitor", "batches", "rng") if not isinstance(checkpoint.get(key, {}), dict)]
    if not wrong:
        wrong = [key for key, value in _counters(checkpoint).items() if type(value) is not int or value < 0]
        so_far = checkpoint.get("epoch_so_far")
        numbers = checkpoint | {"epoch_so_far": so_far.get("learning_rates") if isinstance(so_far, dict) else None}
        of_the_run = ("epoch", "step", "config", "monitor", "batches", "epoch_so_far")
        wrong += [key for key in of_the_run if key not in wrong and not _fit_in_64_bits(numbers.get(key))]
    if wrong:
        raise CheckpointError(f"{shown_path(path)}: has something else than a run's own values in {', '.join(wrong)}.")
    if missing := [key for key in _KEYS if key not in checkpoint]:
        raise CheckpointError(f"{shown_path(path)}: lacks {', '.join(missing)}: a resume would not be exact.")
    return _with_shards_checked(path, checkpoint)


def _counters(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """What counts epochs, steps, batches and samples in a checkpoint, by key."""
    counters = {key: checkpoint.get(key, 0) for key in ("epoch", "step")}
    counters |= {f"batches.{name}": value for name, value in checkpoint.get("batches", {}).items() if value is not None}
    best = checkpoint.get("monitor", {}).get("best_values", {})
    return counters | {"monitor.best_values": best.get("epoch", 0) if isinstance(best, dict) else None}


def _fit_in_64_bits(value: Any) -> bool:
    """Whether all whole numbers in it do. Larger ones are in no run, and neither loops nor floats can take them."""
    if isinstance(value, (dict, list, tuple)):
        return all(map(_fit_in_64_bits, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, int) or abs(value) < 2**63


def _with_shards_checked(path: Path, checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Check the folder that holds the tensors, if there is one, and note its full path."""
    if "shards" not in checkpoint:
        return checkpoint
    from utils.checkpoints import sharded_files

    try:
        return checkpoint | {"shards": sharded_files.checked(path.parent, checkpoint["shards"])}
    except sharded_files.DamagedShards as error:
        raise _unusable(path, str(error)) from error


def load_into(name: str, load: Callable[[Any], Any], state: Any, source: str) -> None:
    """Give a part its state, by its `load_state_dict`; what does not fit is one message, with what each side has."""
    try:
        load(state)
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{source}: its {name!r} does not fit this config's: {reason}") from error


def save_checkpoint(
    folder: Path, state: dict[str, Any], names: list[str], check: Callable[[], object] = lambda: None
) -> None:
    """Write a checkpoint once, under all these names; the last of them is put in its place when the others are.

    So `last.pth` stands last: a kill in between leaves one that does not know of what the other names hold already; in
    another order, it would count on a best one that is not there.

    The new file is read back, and `check` is called, before it replaces an older one.

    Raises:
        OSError: it could not be written, or not read back; the file that had the last name before is untouched.
    """

    def check_file(path: Path) -> None:
        _check_readable(path)
        check()

    paths = [folder / name for name in names]
    write_under_names(paths, lambda file: write_sealed(file, lambda sink: torch.save(state, sink)), check_file)


def _check_readable(path: Path) -> None:
    """Check that `load_checkpoint` can read the file. The scan is five times as fast as to load what it has passed."""
    try:
        if not is_intact(path):
            raise _Damaged("its checksum does not match")
        with open(path, "rb") as file:
            check_pickles(file)
    except Exception as error:
        raise OSError(errno.EIO, f"what was written cannot be read back ({error})") from error


def packed(state: Any) -> bytes:
    """A state as bytes, for other processes."""
    buffer = io.BytesIO()
    torch.save(plain(state), buffer)
    return buffer.getvalue()


def unpacked(content: bytes) -> Any:
    """What was packed, on the CPU.

    Raises:
        UnpicklingError: it holds more than tensors and plain values.
    """
    return restored(_load(io.BytesIO(content)))
