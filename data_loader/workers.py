"""A loader's worker processes: what a run says when one dies or hangs, and that none outlives the run."""

import atexit
import multiprocessing
import signal
import threading
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from typing import Any

from torch.utils.data import DataLoader

from data_loader.repeatable import Failure, described
from utils.errors import BatchError

_started: set[BaseProcess] = set()


def batches_of(loader: DataLoader[Any], where: str, first: int) -> Iterator[Any]:
    """The loader's batches, numbered from `first` in messages. `where`: what they are batches of.

    Raises:
        BatchError: a sample cannot be loaded, or a worker has died or hangs.
    """
    before = set(multiprocessing.active_children())
    iterator = _opened(loader)
    workers = set(multiprocessing.active_children()) - before
    _started.update(workers)
    return _explained(iterator, workers, where, first)


def _opened(loader: DataLoader[Any]) -> Iterator[Any]:
    """`iter(loader)`, without the handler by which torch raises in the middle of a step when a worker dies: it is
    noticed in any case when its batch is asked for, between two steps, where the run can be saved."""
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        return iter(loader)
    handler = signal.getsignal(signal.SIGCHLD)
    iterator = iter(loader)
    is_torchs = getattr(handler, "__module__", "") == "torch.utils.data._utils.signal_handling"  # of another loader
    signal.signal(signal.SIGCHLD, signal.SIG_DFL if is_torchs else handler)
    return iterator


def _explained(iterator: Iterator[Any], workers: set[BaseProcess], where: str, number: int) -> Iterator[Any]:
    while True:
        number += 1
        try:
            batch = next(iterator)
        except StopIteration:
            return
        except Exception as error:
            raise BatchError(f"{where}, batch {number}: {_reason(error, workers)}") from error
        if isinstance(batch, Failure):
            raise BatchError(f"{where}, batch {number}: {batch.message}")
        yield batch


def _reason(error: Exception, workers: set[BaseProcess]) -> str:
    text = str(error)
    if text.startswith("DataLoader timed out"):
        return (
            f"{text}: a worker hangs. Look for what it waits for with --set data_loader.num_workers=0, or give it more "
            "time: data_loader.timeout."
        )
    for worker in workers:
        worker.join(0.2)  # the connection to one that dies breaks just before its end
    if ends := [f"{worker.pid} {_end_of(worker)}" for worker in workers if worker.exitcode]:
        return (
            f"a worker process has died ({', '.join(ends)}). Often the system kills it for want of memory, or /dev/shm "
            "is full: try a smaller data_loader.batch_size or prefetch_factor, or --set data_loader.num_workers=0."
        )
    return described(error)


def _end_of(worker: BaseProcess) -> str:
    code = worker.exitcode or 0
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"


@atexit.register
def _kill_leftovers() -> None:
    """A worker that hangs does not hear SIGTERM, by which Python would end it before waiting for it."""
    for worker in _started:
        if worker.is_alive():
            worker.kill()
