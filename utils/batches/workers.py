"""A loader's worker processes: what a run says when one dies or hangs, and that none outlives the run."""

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import traceback
import weakref
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import count
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data._utils import signal_handling
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from utils.batches.failures import Failure, described
from utils.batches.seeded_batches import Order
from utils.distributed.processes import world_size
from utils.distributed.signals import ignore_stop_signals, raise_if_asked
from utils.errors import BatchError, ConfigError, Stopped
from utils.frames import reason_of
from utils.seed import drop_spare_normal

MOST_DEPTH = 10  # of attributes of attributes
POLL_SECONDS = 1.0  # between two looks at the signals while a batch does not come
NO_THREAD = 77  # the exit code of a worker that can start no thread
TASKS_PER_WORKER = 5  # itself, its three threads (two that send batches, one that watches the run), and one of the run
_started: weakref.WeakSet[BaseProcess] = weakref.WeakSet()


def batches_of(loader: DataLoader[Any], where: str, first: int, seconds: float) -> Iterator[Any]:
    """The loader's batches, numbered from `first` in messages. `where`: what they are batches of.

    `seconds`: how long a worker may take for a batch; 0 for ever. The loader's own timeout is `POLL_SECONDS`.

    Raises:
        ConfigError: the data set cannot be sent to a worker.
        BatchError: a sample cannot be loaded, or a worker has died or hangs.
        Stopped: a signal came while a batch was waited for.
    """
    if isinstance(loader.sampler, Order) and not loader.num_workers and not loader.pin_memory:
        batches = map(loader.dataset.__getitem__, loader.sampler)  # torch's loader has nothing to add
        return _explained(batches, set(), where, first, seconds)
    living = set(multiprocessing.active_children())
    try:
        _check_room(loader)
        iterator = _opened(loader, seconds)
    except BaseException as error:
        _forget_workers(error)
        workers = set(getattr(loader._iterator, "_workers", ()))
        reason = _reason(error, workers)
        _kill(workers | set(multiprocessing.active_children()) - living)
        if isinstance(error, Exception) and (unsent := _unsent(loader)):
            raise ConfigError(f"dataset: {unsent}") from error
        if not isinstance(error, (EOFError, OSError, RuntimeError)):
            raise
        raise BatchError(f"{where}: {reason}") from error
    workers = set(getattr(iterator, "_workers", ()))
    _started.update(workers)
    return _explained(iterator, workers, where, first, seconds)


def start_worker(number: int) -> None:
    """Runs first in each worker. Starts its threads, so that a limit is met here: torch's start with the first batch,
    and lose it where they cannot."""
    ignore_stop_signals()
    try:
        threading.Thread(target=_end_with_run, daemon=True).start()
        _start_thread_of(sys._getframe(1).f_locals.get("data_queue"))
        ForkingPickler.dumps(torch.zeros(1))
    except RuntimeError:
        os._exit(NO_THREAD)


def _start_thread_of(queue: Any) -> None:
    if getattr(queue, "_thread", queue) is None:
        queue._start_thread()


def _end_with_run() -> None:
    """End this worker when its run has been killed. torch does so between two batches only, and not for workers of a
    fork server, whose parent lives as long as they do."""
    if run := multiprocessing.parent_process():
        run.join()
        os._exit(1)


def _check_room(loader: DataLoader[Any]) -> None:
    """Try whether all processes and threads that the workers need can be started, by starting as many threads: a limit
    on processes counts both. Workers of which only some start, or without their threads, would hang or print
    tracebacks."""
    method = (loader.multiprocessing_context or multiprocessing).get_start_method()
    if not loader.num_workers or loader._iterator is not None:
        return
    if method == "forkserver":
        forkserver.ensure_running()
    of_all = loader.pin_memory + 2 * (method != "fork")  # one thread sends the data set, one process watches semaphores
    is_over, threads = threading.Event(), []
    try:
        for _ in range(TASKS_PER_WORKER * loader.num_workers + of_all):
            threads.append(threading.Thread(target=is_over.wait, daemon=True))
            threads[-1].start()
    except RuntimeError:
        threads.pop()
        raise
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def _forget_workers(error: BaseException) -> None:
    """Have torch forget the workers of an iterator that could not be created. Otherwise its signal handler raises an
    error for each worker that ends, and the iterator's destructor fails, because it expects all workers."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for made in [value for frame in frames for value in frame.f_locals.values()]:
        if isinstance(made, _MultiProcessingDataLoaderIter) and not getattr(made, "_shutdown", False):
            made._shutdown = True
            if getattr(made, "_worker_pids_set", False):
                signal_handling._remove_worker_pids(id(made))


def _unsent(loader: DataLoader[Any]) -> str:
    """Why a data set cannot be sent to workers that are not forked; "" where that is not the reason."""
    method = (loader.multiprocessing_context or multiprocessing).get_start_method()
    dataset = loader.dataset.dataset  # type: ignore[attr-defined]
    if method == "fork" or not (reason := _why_not_sent(loader.dataset)):
        return ""
    return (
        f"{_innermost_unsent(type(dataset).__name__, dataset)} cannot be sent to a worker that {method!r} starts: "
        f"{reason}. Write a named function instead of a lambda, open files in __getitem__, or use "
        "--set data_loader.num_workers=0."
    )


def _innermost_unsent(name: str, value: Any, depth: int = 0) -> str:
    """The attribute or item, as dotted code, that is the reason."""
    are_items = isinstance(value, (list, tuple))
    members = value if isinstance(value, dict) else enumerate(value) if are_items else getattr(value, "__dict__", {})
    for key, member in dict(members).items() if depth < MOST_DEPTH and not isinstance(value, type) else ():
        if _why_not_sent(member):
            inner = f"{name}[{key!r}]" if are_items or isinstance(value, dict) else f"{name}.{key}"
            return _innermost_unsent(inner, member, depth + 1)
    return name


def _why_not_sent(value: Any) -> str:
    try:
        ForkingPickler.dumps(value)
    except Exception as error:
        is_limit = isinstance(error, OSError) or "start new thread" in str(error)  # of this process, not of the value
        return "" if is_limit else " ".join(str(error).split()).rstrip(".")
    return ""


def _opened(loader: DataLoader[Any], seconds: float) -> Iterator[Any]:
    """`iter(loader)`, without the handler by which torch raises in the middle of a step when a worker dies: it is
    noticed in any case when its batch is asked for, between two steps, where the run can be saved."""
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        return _patient_iter(loader, seconds)
    handler = signal.getsignal(signal.SIGCHLD)
    iterator = _patient_iter(loader, seconds)
    is_torchs = getattr(handler, "__module__", "") == "torch.utils.data._utils.signal_handling"  # of another loader
    signal.signal(signal.SIGCHLD, signal.SIG_DFL if is_torchs or handler is None else handler)
    return iterator


def _patient_iter(loader: DataLoader[Any], seconds: float) -> Iterator[Any]:
    """`iter(loader)`. Persistent workers answer it once they are through with what they load ahead, and torch, which
    would wait for that as long as for a batch, cannot be asked twice."""
    living: Any = loader._iterator
    if living is None:
        iterator = iter(loader)
        for queue in getattr(iterator, "_index_queues", ()):
            _start_thread_of(queue)
        return iterator
    try_once = living._try_get_data

    def try_often(timeout: float) -> tuple[bool, Any]:
        for polls in count(1):
            if (found := try_once(timeout))[0]:
                break
            _go_on_waiting(polls, seconds)
        return found

    living._try_get_data = try_often
    try:
        return iter(loader)
    finally:
        del living._try_get_data


def _explained(
    iterator: Iterator[Any], workers: set[BaseProcess], where: str, number: int, seconds: float
) -> Iterator[Any]:
    while True:
        number += 1
        try:
            batch = _next(iterator, seconds)
        except StopIteration:
            return
        except BaseException as error:
            reason = _reason(error, workers)
            _kill(workers)  # or torch would wait five seconds for each that hangs
            if not isinstance(error, Exception) or isinstance(error, Stopped):
                raise
            raise BatchError(f"{where}, batch {number}: {reason}") from error
        if isinstance(batch, Failure):
            _kill(workers)
            raise BatchError(f"{where}, batch {number}: {batch.message}")
        drop_spare_normal()
        yield batch


def _next(iterator: Iterator[Any], seconds: float) -> Any:
    """The next batch; every now and then, while it does not come, a look at the signals."""
    for polls in count(1):
        try:
            return next(iterator)
        except RuntimeError as error:
            if not str(error).startswith("DataLoader timed out"):
                raise
            _go_on_waiting(polls, seconds)


def _go_on_waiting(polls: int, seconds: float) -> None:
    """Raise Stopped after a signal, and TimeoutError when the polls have taken so many seconds. A clock would count the
    time, too, for which the run was suspended."""
    if world_size() == 1:  # several stop together
        raise_if_asked()
    if 0 < seconds <= polls * POLL_SECONDS:
        raise TimeoutError(f"no batch within {seconds:g} seconds")


def _reason(error: BaseException, workers: set[BaseProcess]) -> str:
    if isinstance(error, TimeoutError) and workers:
        return (
            f"{error}: a worker hangs. Look for what it waits for with --set data_loader.num_workers=0, "
            "or give it more time: data_loader.timeout."
        )
    for worker in workers if isinstance(error, (OSError, EOFError, RuntimeError)) else ():
        with suppress(RuntimeError):  # of torch's signal handler: another worker has died
            worker.join(0.2)  # the connection to one that dies breaks just before its end
    if reason := _why_not_started(error, workers):
        return (
            f"a worker cannot be started: {reason}. Each needs {TASKS_PER_WORKER} processes and threads. Is there a "
            "limit on them (ulimit -u, docker --pids-limit), or on open files (ulimit -n)? Write a smaller "
            "data_loader.num_workers, or --set data_loader.num_workers=0."
        )
    if ends := [f"{worker.pid} {_end_of(worker)}" for worker in workers if worker.exitcode is not None]:
        return (
            f"a worker process has died ({', '.join(ends)}). Often the system kills it for want of memory, or /dev/shm "
            "is full: try a smaller data_loader.batch_size or prefetch_factor, or --set data_loader.num_workers=0."
        )
    return described(error)


def _why_not_started(error: BaseException, workers: set[BaseProcess]) -> str:
    if any(worker.exitcode == NO_THREAD for worker in workers):
        return "it can start no thread"
    names = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    is_of_start = any(name.partition(".")[0] in ("multiprocessing", "threading") for name in names)
    return reason_of(error) if is_of_start and not workers else ""


def _end_of(worker: BaseProcess) -> str:
    code = worker.exitcode or 0
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"


def _kill(workers: Iterable[BaseProcess]) -> None:
    for worker in list(workers):
        if worker.is_alive():
            worker.kill()


@atexit.register
def _kill_leftovers() -> None:
    """A worker that hangs does not hear SIGTERM, by which Python would end it before waiting for it."""
    _kill(_started)
