"""The one place that knows of the other processes of a run, as torchrun starts them: its ranks.

Who is there stands in the environment, and costs nothing to ask. Alone, what would talk to the others talks to itself.
"""

import logging
import os
import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import uuid4

from utils.distributed.launch import check_launch
from utils.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup, Store

T = TypeVar("T")
N = TypeVar("N", int, float)
log = logging.getLogger(__name__)
_CONNECT_MINUTES = 10  # for what comes before the config is known
_WAIT_SECONDS = 20.0  # after which the first process says what it waits for
_WAITING = "Waiting for the others of %d processes. If there are none: unset RANK and WORLD_SIZE, and start again."
_ANSWER_SECONDS = 2.0  # in which the ranks that still live say so
_LOST = ("closed by peer", "reset by peer", "Broken pipe", "imed out", "imeout", "Connection refused")


def world_size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE") or 1) if os.environ.get("RANK") else 1


def rank() -> int:
    """This process among them; 0 is the first, which alone writes and speaks."""
    return int(os.environ["RANK"]) if world_size() > 1 else 0


def is_first() -> bool:
    return rank() == 0


def local_rank() -> int:
    """This process among those of its machine."""
    return int(os.environ.get("LOCAL_RANK") or 0) if world_size() > 1 else 0


def local_world_size() -> int:
    """How many of them share its machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or 1) if world_size() > 1 else 1


def is_restarted() -> bool:
    """Whether torchrun has started the processes again, since one of them died (`--max-restarts`)."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT") or 0) > 0


def job() -> str:
    """The same for all processes of a torchrun, and for those that it starts in their place."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return name if name != "none" else f"{platform.node()}/{os.getppid()}"


class LostRank(RunError):
    """Another process of the run has ended, or does not answer."""


class _Connection:
    """What `connected` and `set_up` have made. `host`: for numbers of the CPU's; `device`: for the model's; `saving`:
    for what is read and written beside the training.

    `steps_are_joint`: whether a step takes all processes, an evaluation's, too.
    """

    store: "Store | None" = None
    host: "ProcessGroup | None" = None
    device: "ProcessGroup | None" = None
    saving: "ProcessGroup | None" = None
    timeout_minutes: float = _CONNECT_MINUTES
    steps_are_joint: bool = False


@contextmanager
def connected() -> Iterator[None]:
    """Connect the processes of a run while the block runs.

    Raises:
        UserError: the environment does not say which processes these are.
        LostRank: the first process, or another one, is not there.
    """
    check_launch()
    if world_size() == 1:
        yield
        return
    import torch
    from torch import distributed as dist

    timeout = timedelta(minutes=_CONNECT_MINUTES)
    hint = threading.Timer(_WAIT_SECONDS, log.warning, [_WAITING, world_size()])
    hint.daemon = True
    with suppress(RuntimeError):  # where no thread can be started, there is no hint
        hint.start()
    try:
        store = next(dist.rendezvous("env://", rank(), world_size(), timeout=timeout))[0]
        store = _fresh(store, timeout)
    except (RuntimeError, ValueError) as error:
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise LostRank(f"rank {rank()} of {world_size()} cannot meet the others at {address}: {error}") from error
    finally:
        hint.cancel()
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank(), world_size=world_size(), timeout=timeout)
    _Connection.store = store
    yield  # a failure leaves the connection to the end of the process: the others may hang in it
    with lost_ranks_explained():
        dist.barrier(_Connection.host)
    dist.destroy_process_group()
    _Connection.store = _Connection.host = _Connection.device = _Connection.saving = None


def _fresh(store: "Store", timeout: timedelta) -> "Store":
    """The part of a store that is this start's own. torchrun's lives on when it starts the processes again, and torch
    would take the addresses that the dead ones left there for ours: all would wait for ever.

    Every process but the first asks with a word of its own, and is answered with the word of this start.
    """
    from torch.distributed import PrefixStore

    word, end = uuid4().hex, time.monotonic() + timeout.total_seconds()
    if is_first():
        while (come := store.add(f"here/{word}", 0)) < world_size() - 1:
            if time.monotonic() > end:
                raise LostRank(f"{come + 1} of {world_size()} processes have come within {timeout}.")
            for number in range(1, world_size()):
                if store.check([f"ask/{number}"]):
                    store.set(f"answer/{store.get(f'ask/{number}').decode()}", word)
            time.sleep(0.01)
    else:
        store.set(f"ask/{rank()}", word)
        store.wait([f"answer/{word}"], timeout)
        word = store.get(f"answer/{word}").decode()
        store.add(f"here/{word}", 1)
    return PrefixStore(word, store)


def set_up(timeout_minutes: float, steps_are_joint: bool) -> None:
    """Say how the ranks work together from here on, and how long they wait for each other."""
    if world_size() > 1:
        from torch import distributed as dist

        timeout = timedelta(minutes=timeout_minutes)
        _Connection.host = cast("ProcessGroup", dist.new_group(backend="gloo", timeout=timeout))
        _Connection.device = cast("ProcessGroup", dist.new_group(timeout=timeout))
        _Connection.timeout_minutes, _Connection.steps_are_joint = timeout_minutes, steps_are_joint


def steps_are_joint() -> bool:
    """Whether a step takes all processes, an evaluation's, too."""
    return _Connection.steps_are_joint


def saving_group() -> "ProcessGroup | None":
    """The group for what is read and written beside the training; None where there is one process."""
    if world_size() > 1 and _Connection.saving is None:
        from torch import distributed as dist

        timeout = timedelta(minutes=_Connection.timeout_minutes)
        _Connection.saving = cast("ProcessGroup", dist.new_group(backend="gloo", timeout=timeout))
    return _Connection.saving


def device_group() -> "ProcessGroup | None":
    """The group for tensors on the run's devices; None for torch's default one."""
    return _Connection.device


def sums(numbers: Sequence[N]) -> list[N]:
    """Each number, summed over the ranks."""
    if world_size() == 1:
        return list(numbers)
    import torch
    from torch import distributed as dist

    tensor = torch.tensor(numbers, dtype=torch.float64 if isinstance(numbers[0], float) else torch.int64)
    with lost_ranks_explained():
        dist.all_reduce(tensor, group=_Connection.host)
    return tensor.tolist()


def gather(value: T) -> list[T]:
    """The value of every rank, in order, on all of them: plain values, for tensors are to be packed."""
    if world_size() == 1:
        return [value]
    from torch import distributed as dist

    values: list[Any] = [None] * world_size()
    with lost_ranks_explained():
        dist.all_gather_object(values, value, group=_Connection.host)
    return values


def from_first(make: Callable[[], T]) -> T:
    """What `make` gives on the first rank, on all of them; the others do not call it.

    Raises:
        LostRank: on the others, where it fails.
    """
    if world_size() == 1:
        return make()
    from torch import distributed as dist

    outcome: list[Any] = [None, False]
    try:
        if is_first():
            outcome = [make(), True]
    finally:
        with lost_ranks_explained():
            dist.broadcast_object_list(outcome, src=0, group=_Connection.host)
    if not outcome[1]:
        raise LostRank("rank 0 has failed; what it says is the reason.")
    return outcome[0]


def broadcast_from_first(tensors: Sequence[Any]) -> None:
    """Fill the tensors with those of the first rank."""
    if world_size() > 1:
        from torch import distributed as dist

        with lost_ranks_explained():
            for tensor in tensors:
                dist.broadcast(tensor, src=0, group=_Connection.device)


def average(tensors: Iterable["Tensor"]) -> None:
    """Replace each tensor by its mean over the ranks."""
    if world_size() == 1:
        return
    import torch
    from torch import distributed as dist

    kinds: dict[Any, list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for alike in kinds.values():
        flat = torch.cat([tensor.reshape(-1) for tensor in alike]).div_(world_size())
        with lost_ranks_explained():
            dist.all_reduce(flat, group=_Connection.device)
        for tensor, mean in zip(alike, flat.split([tensor.numel() for tensor in alike]), strict=True):
            tensor.copy_(mean.view_as(tensor))


@contextmanager
def lost_ranks_explained() -> Iterator[None]:
    """Turn what torch raises when another process does not answer into a message that names it.

    Raises:
        LostRank: that is what came.
    """
    try:
        yield
    except RuntimeError as error:
        explain_lost_rank(error)
        raise


def explain_lost_rank(error: BaseException) -> None:
    """Raise `LostRank` if the error says that another process does not answer; and which."""
    text = str(error)
    if world_size() == 1 or isinstance(error, LostRank) or not any(words in text for words in _LOST):
        return
    missing = _silent_ranks()
    who = ", ".join(f"rank {number}" for number in missing) or "another process"
    if "imed out" in text or "imeout" in text:
        what = f"has not answered for {_Connection.timeout_minutes:g} minutes (parallel.args.timeout_minutes): it hangs"
    else:
        what = "has ended"
    raise LostRank(f"{who} of {world_size()} {what}. The last checkpoint is good; -r goes on from it.") from error


def _silent_ranks() -> list[int]:
    """Those that do not come here, too, within some seconds. Asked through the store, which needs no other rank."""
    store, key = _Connection.store, "still there"
    if store is None:
        return []
    try:
        store.set_timeout(timedelta(seconds=_ANSWER_SECONDS))
        store.set(f"{key}/{rank()}", "yes")
        time.sleep(_ANSWER_SECONDS)
        return [number for number in range(world_size()) if not store.check([f"{key}/{number}"])]
    except RuntimeError:  # the store has ended with the process that it was in
        return []
