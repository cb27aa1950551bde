"""Folders in which each process writes its own part of a checkpoint's tensors, by torch.distributed.checkpoint.

What torch writes of its own about them, `.metadata`, is a pickle, and reading it would run what stands there. So the
checkpoint itself says, in plain values, where each part is, and that file is not read here.
"""

import io
import logging
import math
import re
import shutil
import warnings
import zlib
from collections.abc import Iterable
from concurrent.futures import Future
from itertools import chain, count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint import metadata as dcp_metadata
from torch.distributed.checkpoint.filesystem import _StorageInfo

from utils.checkpoints.pickle_scan import HarmfulPickle, check_pickles
from utils.distributed.processes import explain_lost_rank, is_first, saving_group
from utils.distributed.shards import Shards, missing_tensors, put_together
from utils.paths import shown_path

_FOLDER = re.compile(r"shards-step\d+(-\d+)?")
_FILE = re.compile(r"__\d+_\d+\.distcp")

log = logging.getLogger(__name__)


class DamagedShards(Exception):
    """A folder does not hold what was written to it."""


# ---- writing ----


def new_folder(parent: Path, step: int) -> Path:
    """One that is not there yet: what an earlier save has written stays good until another one is."""
    names = chain([f"shards-step{step}"], (f"shards-step{step}-{number}" for number in count(2)))
    return next(parent / name for name in names if not (parent / name).exists())


def start_writing(folder: Path, shards: Shards) -> Future[Any]:
    """Write in the background, from a copy that is made first; all processes together."""
    written = dcp.async_save(shards, storage_writer=_Writer(folder), process_group=saving_group())
    assert isinstance(written, Future)
    return written


class _Writer(dcp.FileSystemWriter):
    def write_data(self, *args: Any, **kwargs: Any) -> Any:
        """torch says in a RuntimeError that a disk is full, and the other processes are not told what led to it."""
        try:
            return super().write_data(*args, **kwargs)
        except RuntimeError as error:
            raise (_os_error_behind(error) or error) from error

    def finish(self, metadata: dcp_metadata.Metadata, results: Any) -> None:
        """Where each part is: torch 2.10 and 2.11 write it to the file alone, and `async_save` lacks it."""
        super().finish(metadata, results)
        metadata.storage_data = {result.index: result.storage_data for written in results for result in written}


def _os_error_behind(error: BaseException | None) -> OSError | None:
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def reason_of(error: BaseException) -> BaseException:
    """What has failed, of what torch raises on all processes: an OSError if there is one."""
    failures = error.failures.values() if isinstance(error, dcp.api.CheckpointException) else []
    reasons = [failure for failure, _ in failures]
    return next((reason for reason in reasons if isinstance(reason, OSError)), reasons[0] if reasons else error)


def entry_of(folder: Path, written: Any) -> dict[str, Any]:
    """What a checkpoint says of its folder: its name, where each part of each tensor is, and the CRC-32 of every file.

    `written`: what the future of `start_writing` gave. Reads the files.
    """
    tensors: dict[str, Any] = {}
    for key, about in written.state_dict_metadata.items():
        tensors[key] = {
            "shape": list(about.size),
            "dtype": str(about.properties.dtype).removeprefix("torch."),
            "parts": [],
        }
    for index, place in written.storage_data.items():
        chunks = written.state_dict_metadata[index.fqn].chunks
        (size,) = (chunk.sizes for chunk in chunks if chunk.offsets == index.offset)
        part = [list(index.offset), list(size), place.relative_path, place.offset, place.length]
        tensors[index.fqn]["parts"].append(part)
    files = sorted({part[2] for tensor in tensors.values() for part in tensor["parts"]})
    return {"folder": folder.name, "files": {name: _crc32(folder / name) for name in files}, "tensors": tensors}


def _crc32(file: Path) -> int:
    crc = 0
    with open(file, "rb") as stream:
        while chunk := stream.read(1 << 20):
            crc = zlib.crc32(chunk, crc)
    return crc


# ---- reading ----


def checked(parent: Path, entry: Any) -> dict[str, Any]:
    """The entry of a checkpoint in the folder `parent`, with the path of the shards. The files are read through, by the
    first of several processes.

    Raises:
        DamagedShards: a file is missing, or not as it was written.
    """
    name, sums = (entry.get("folder"), entry.get("files")) if isinstance(entry, dict) else (None, None)
    if not _FOLDER.fullmatch(str(name)) or not isinstance(sums, dict) or not isinstance(entry.get("tensors"), dict):
        raise DamagedShards("it does not say where its tensors are")
    folder = parent / str(name)
    for file in sums:
        if not _FILE.fullmatch(str(file)) or not (folder / file).is_file() or (folder / file).is_symlink():
            raise DamagedShards(f"{name}/{file} is missing")
        if is_first() and _crc32(folder / file) != sums[file]:
            raise DamagedShards(f"the checksum of {name}/{file} does not match")
    return entry | {"path": str(folder)}


def with_tensors(state: dict[str, Any], names: Iterable[str], mesh: Any = None, group: Any = None) -> dict[str, Any]:
    """A checked checkpoint with those of its parts that are named, from its folder; whatever number of processes wrote
    it. `mesh`: the processes of which each reads its part; None for whole tensors. `group`: who read together.

    Raises:
        DamagedShards: the folder does not hold them.
    """
    entry = state["shards"]
    parts, folder = {name: state[name] for name in names if name in state}, Path(entry["path"])
    try:
        tensors = missing_tensors(
            parts, mesh, most_bytes=sum((folder / file).stat().st_size for file in entry["files"])
        )
        contents = _contents(entry, tensors)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # as it is meant to be, for one process
            reader = _Reader(folder, contents)
            dcp.load(tensors, storage_reader=reader, process_group=group, no_dist=group is None)
        return state | put_together(parts, tensors)
    except (
        Exception,
        dcp.api.CheckpointException,
    ) as error:  # whatever may be met in bytes that anybody may have written
        explain_lost_rank(error)
        text = str(reason_of(error)).strip().splitlines()
        raise DamagedShards(f"{folder.name} cannot be read: {text[-1] if text else type(error).__name__}") from error


def _contents(entry: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    """torch's table of contents, of the tensors that are asked for.

    Raises:
        DamagedShards: it is none.
    """
    about: dict[str, Any] = {}
    places: dict[Any, Any] = {}
    for key, tensor in tensors.items():
        told = entry["tensors"][key]
        shape, dtype, parts = list(tensor.shape), str(tensor.dtype).removeprefix("torch."), told["parts"]
        covered = sum(math.prod(size) for _, size, *_ in parts)
        if [told["shape"], told["dtype"]] != [shape, dtype] or covered != tensor.numel():
            raise DamagedShards(f"{key} is not what the folder holds")
        chunks = []
        for offset, size, file, start, length in parts:
            if file not in entry["files"]:
                raise DamagedShards(f"{key} lies elsewhere")
            _check_growth(Path(entry["path"]) / file, start, length)
            chunks.append(dcp_metadata.ChunkStorageMetadata(torch.Size(offset), torch.Size(size)))
            index = dcp_metadata.MetadataIndex(key, torch.Size(offset), len(chunks) - 1)
            places[index] = _StorageInfo(file, start, length)
        properties = dcp_metadata.TensorProperties(dtype=tensor.dtype)
        about[key] = dcp_metadata.TensorStorageMetadata(properties, torch.Size(shape), chunks)
    return dcp_metadata.Metadata(about, storage_data=places)


def _check_growth(file: Path, start: int, length: int) -> None:
    """A part is an archive of its own, and is checked as a checkpoint is."""
    with open(file, "rb") as stream:
        stream.seek(start)
        content = stream.read(min(length, file.stat().st_size))
    try:
        check_pickles(io.BytesIO(content))
    except HarmfulPickle as error:
        raise DamagedShards(f"{file.name}: {error}") from error


class _Reader(dcp.FileSystemReader):
    """Reads by a table of contents that it is given."""

    def __init__(self, folder: Path, contents: Any):
        super().__init__(folder)
        self._contents = contents

    def read_metadata(self, *args: Any, **kwargs: Any) -> Any:
        self._contents.storage_meta = dcp_metadata.StorageMeta(load_id=self.load_id)
        return self._contents


# ---- deleting ----


def drop_unused(parent: Path, used: Iterable[str]) -> None:
    """Delete the folders that no checkpoint names any more."""
    kept = set(used)
    for folder in parent.iterdir():
        if _FOLDER.fullmatch(folder.name) and folder.name not in kept and folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder, onerror=_tell)


def _tell(_: Any, path: str, error: Any) -> None:
    log.warning("%s could not be deleted: %s.", shown_path(Path(path)), error[1])
