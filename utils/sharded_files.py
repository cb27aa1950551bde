"""Folders in which each process writes its own part of a checkpoint's tensors, by torch.distributed.checkpoint.

A file of a stranger's cannot run code here: torch would unpickle the table of contents as it stands.
"""

import logging
import pickle
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

from utils.distributed import explain_lost_rank, saving_group
from utils.paths import shown_path
from utils.shards import Shards, missing_tensors, put_together

CONTENTS = ".metadata"  # torch's name for it
_FOLDER = re.compile(r"shards-step\d+(-\d+)?")
_NAMES = {  # what a table of contents consists of
    "torch.distributed.checkpoint.metadata": {
        "Metadata", "MetadataIndex", "StorageMeta", "ChunkStorageMetadata", "TensorProperties", "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "torch": {"Size"},
    "pathlib": {"Path", "PosixPath", "WindowsPath"},
    "pathlib._local": {"Path", "PosixPath", "WindowsPath"},
}  # fmt: skip

log = logging.getLogger(__name__)


class DamagedShards(Exception):
    """A folder does not hold what was written to it."""


def new_folder(parent: Path, step: int) -> Path:
    """One that is not there yet: what an earlier save has written stays good until another one is."""
    names = chain([f"shards-step{step}"], (f"shards-step{step}-{number}" for number in count(2)))
    return next(parent / name for name in names if not (parent / name).exists())


def start_writing(folder: Path, shards: Shards) -> Future[Any]:
    """Write in the background, from a copy that is made first; all processes together."""
    written = dcp.async_save(shards, storage_writer=dcp.FileSystemWriter(folder), process_group=saving_group())
    assert isinstance(written, Future)
    return written


def reason_of(error: BaseException) -> OSError | None:
    """The OSError behind what torch raises for all processes, if there is one."""
    failures = error.failures.values() if isinstance(error, dcp.api.CheckpointException) else [(error, None)]
    causes = [cause for failure, _ in failures for cause in (failure, failure.__cause__, failure.__context__)]
    return next((cause for cause in causes if isinstance(cause, OSError)), None)


def entry_of(folder: Path) -> dict[str, Any]:
    """What a checkpoint says of its folder: its name, and the CRC-32 of every file in it. Reads them all."""
    return {"folder": folder.name, "files": {file.name: _crc32(file) for file in sorted(folder.iterdir())}}


def _crc32(file: Path) -> int:
    crc = 0
    with open(file, "rb") as stream:
        while chunk := stream.read(1 << 20):
            crc = zlib.crc32(chunk, crc)
    return crc


def checked(parent: Path, entry: Any) -> dict[str, Any]:
    """The entry of a checkpoint in the folder `parent`, with the path of the shards.

    Raises:
        DamagedShards: a file is missing, or not as it was written.
    """
    name, sums = (entry.get("folder"), entry.get("files")) if isinstance(entry, dict) else (None, None)
    if not _FOLDER.fullmatch(str(name)) or not isinstance(sums, dict) or CONTENTS not in sums:
        raise DamagedShards("it does not say where its tensors are")
    for file in sums:
        path = parent / str(name) / Path(str(file)).name
        if not path.is_file():
            raise DamagedShards(f"{name}/{path.name} is missing")
        if _crc32(path) != sums[file]:
            raise DamagedShards(f"the checksum of {name}/{path.name} does not match")
    return entry | {"path": str(parent / str(name))}


def with_tensors(state: dict[str, Any], names: Iterable[str], mesh: Any = None, group: Any = None) -> dict[str, Any]:
    """A checked checkpoint with those of its parts that are named, from its folder; whatever number of processes wrote
    it. `mesh`: the processes of which each reads its part; None for whole tensors. `group`: who read together.

    Raises:
        DamagedShards: the folder does not hold them.
    """
    parts, folder = {name: state[name] for name in names if name in state}, Path(state["shards"]["path"])
    try:
        tensors = missing_tensors(parts, mesh, most_bytes=sum(file.stat().st_size for file in folder.iterdir()))
    except ValueError as error:
        raise DamagedShards(str(error)) from error
    _read(folder, tensors, group)
    return state | put_together(parts, tensors)


def _read(folder: Path, tensors: dict[str, Tensor], group: Any) -> None:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # as it is meant to be, for one process
            dcp.load(tensors, storage_reader=_Reader(folder), process_group=group, no_dist=group is None)
    except (
        Exception,
        dcp.api.CheckpointException,
    ) as error:  # whatever may be met in bytes that anybody may have written
        explain_lost_rank(error)
        text = str(reason_of(error) or error).strip().splitlines()
        raise DamagedShards(f"{folder.name} cannot be read: {text[-1] if text else type(error).__name__}") from error


class _Reader(dcp.FileSystemReader):
    def read_metadata(self, *args: Any, **kwargs: Any) -> Any:
        with open(Path(self.path) / CONTENTS, "rb") as file:
            metadata = _Contents(file).load()
        metadata.storage_meta = dcp.metadata.StorageMeta(load_id=self.load_id)
        return metadata


class _Contents(pickle.Unpickler):
    """Lets in what a table of contents consists of, and no other name. Tensors alone can stand in it: what else torch
    saves, it unpickles when it is read."""

    def find_class(self, module: str, name: str) -> Any:
        if name in _NAMES.get(module, ()):
            return super().find_class(module, name)
        if module == "torch" and isinstance(found := getattr(torch, name, None), torch.dtype):
            return found
        raise pickle.UnpicklingError(f"{module}.{name} has no place in it")


def drop_unused(parent: Path, used: Iterable[str]) -> None:
    """Delete the folders that no checkpoint names any more."""
    kept = set(used)
    for folder in parent.iterdir():
        if _FOLDER.fullmatch(folder.name) and folder.name not in kept and folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder, onerror=_tell)


def _tell(_: Any, path: str, error: Any) -> None:
    log.warning("%s could not be deleted: %s.", shown_path(Path(path)), error[1])
