"""Which devices a run uses, and how batches and modules get there."""

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from utils.batch import move
from utils.distributed.cpu import fit_threads, keep_freed_memory
from utils.distributed.parallel import Parallel, ddp
from utils.distributed.processes import broadcast_from_first, local_rank, local_world_size, set_up, world_size
from utils.errors import UserError

log = logging.getLogger(__name__)
MOST_SHOWN = 40  # characters of an option in a message


@dataclass(frozen=True)
class Devices:
    """The device that holds the model, and the GPUs that a batch is split over (DataParallel) where there are two.

    `parallel`: how several processes share the work.
    """

    main: torch.device = torch.device("cpu")
    gpu_ids: tuple[int, ...] = ()
    parallel: Parallel = field(default_factory=ddp)

    def share(self, module: nn.Module) -> nn.Module:
        """The module on the main device, or this process's part of it: before an optimizer learns of its parameters."""
        self.parallel.check(module)
        return self.parallel.share(module, self.main) if world_size() > 1 else module.to(self.main)

    def wrap(self, module: nn.Module) -> nn.Module:
        """What to call in the module's place. The module itself stays bare, and so do its names in a checkpoint."""
        if world_size() > 1:
            return self.parallel.wrap(module, self.main)
        return nn.DataParallel(module, list(self.gpu_ids)) if len(self.gpu_ids) > 1 else module

    def prepare(self, matmul_precision: str) -> None:
        """Set what holds for the whole process, once the data are in memory: what was freed by then is given back."""
        torch.set_float32_matmul_precision(matmul_precision)
        if self.main.type == "cpu":
            keep_freed_memory()

    def move(self, batch: Any) -> Any:
        """The batch on the main device: tensors in tuples, lists and dicts, and whatever else has `to`."""
        return move(batch, self.main)

    def share_buffers(self, modules: Iterable[nn.Module]) -> None:
        """Give every process the buffers of the first, such as a norm's running means."""
        broadcast_from_first([buffer for module in modules for buffer in module.buffers()])


def select_devices(n_gpu: int, option: str | None = None, parallel: Parallel | None = None) -> Devices:
    """`option` (from `-d`: cpu, cuda, mps, or GPU numbers such as 0,1) decides; else `n_gpu`, as far as there are any.
    Of several processes each has one GPU, or all are on the CPU: there `n_gpu` only says whether it is 0.
    Of the CPU, no more cores are used than this process may have.

    Raises:
        UserError: a device was asked for by name that this machine does not have, or not for so many processes.
    """
    fit_threads()
    parallel = parallel or ddp()
    if world_size() > 1:
        set_up(parallel.timeout_minutes, parallel.steps_are_joint)
        return Devices(_device_of_rank(n_gpu, option), parallel=parallel)
    return replace(_named_devices(option) if option is not None else _found_devices(n_gpu), parallel=parallel)


def _found_devices(n_gpu: int) -> Devices:
    found = torch.cuda.device_count()
    if n_gpu == 0:
        return Devices(torch.device("cpu"))
    if found == 0 and torch.backends.mps.is_available():
        return Devices(torch.device("mps"))
    if found < n_gpu:
        log.warning(
            "n_gpu: %d asked for, %d found: training on %s.",
            n_gpu,
            found,
            f"{found} GPU{'s' * (found > 1)}" if found else "the CPU",
        )
    ids = tuple(range(min(n_gpu, found)))
    return Devices(torch.device("cuda", 0), ids) if ids else Devices(torch.device("cpu"))


def _device_of_rank(n_gpu: int, option: str | None) -> torch.device:
    found = torch.cuda.device_count()
    if option == "mps":
        raise UserError("-d mps: is for one process; this run has several. Choices: cpu, or start it without torchrun.")
    if option == "cpu" or (option is None and (n_gpu == 0 or found == 0)):
        return torch.device("cpu")
    ids = _named_devices(option).gpu_ids if option not in (None, "cuda") else tuple(range(found))
    if len(ids) < local_world_size():
        where = f"-d {option}: " if option else ""
        raise UserError(
            f"{where}{local_world_size()} processes on this machine, but {len(ids)} GPU{'s' * (len(ids) != 1)}. "
            f"Choices: torchrun --nproc_per_node={max(1, len(ids))}, or -d cpu."
        )
    torch.cuda.set_device(ids[local_rank()])
    return torch.device("cuda", ids[local_rank()])


def _named_devices(option: str) -> Devices:
    found = torch.cuda.device_count()
    if option == "cpu":
        return Devices(torch.device("cpu"))
    if option == "mps":
        if not torch.backends.mps.is_available():
            raise UserError("-d mps: this machine has no MPS device. Choices: cpu.")
        return Devices(torch.device("mps"))
    ids = ["0"] if option == "cuda" else option.removeprefix("cuda:").split(",")
    if not all(re.fullmatch(r"\s*\d{1,9}\s*", part) for part in ids):
        short = option if len(option) <= MOST_SHOWN else f"{option[: MOST_SHOWN - 3]}..."
        raise UserError(f"-d {short}: not a device. Choices: cpu, cuda, mps, or GPU numbers such as 0,1.")
    gpu_ids = tuple(dict.fromkeys(int(part) for part in ids))
    if missing := [number for number in gpu_ids if number >= found]:
        numbers, why = ", ".join(map(str, missing)), "" if _is_for_gpus() else ", since it was built without CUDA"
        choices = f"Choices: {', '.join(['cpu', *map(str, range(min(found, 8)))])}."
        raise UserError(f"-d {option}: no GPU {numbers}; torch finds {found} on this machine{why}. {choices}")
    return Devices(torch.device("cuda", gpu_ids[0]), gpu_ids)


def _is_for_gpus() -> bool:
    return torch.version.cuda is not None or torch.version.hip is not None
