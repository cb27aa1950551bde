"""Signals that ask a run to stop: they are heard at once, and followed between two steps."""

import faulthandler
import logging
import os
import shutil
import signal
import subprocess  # noqa: S404
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

from utils.errors import Stopped

log = logging.getLogger(__name__)

# SIGHUP: the terminal is closed. SIGXCPU: the CPU time is over. SIGUSR2, SIGUSR1: a cluster's warning before it kills.
# The last of those that reach several processes wins. Windows has only the first two.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU", "SIGUSR2", "SIGUSR1")
STOPPING = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]


class StopSignals:
    """`with StopSignals():` the handlers only take note; `raise_if_asked` follows. A second Ctrl-C does not wait: it
    raises KeyboardInterrupt wherever the run is. Outside the block no signal is heard. A signal that was ignored before
    stays ignored: `nohup` ignores SIGHUP, a script that starts a job in the background SIGINT."""

    asked: signal.Signals | None = None  # signals belong to the process

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}
        self._is_interrupted = False

    def __enter__(self) -> "StopSignals":
        StopSignals.asked = None
        if threading.current_thread() is threading.main_thread():  # no other one may set handlers
            heard = [number for number in STOPPING if signal.getsignal(number) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._take_note) for number in heard}
        return self

    def __exit__(self, *exception: object) -> None:
        StopSignals.asked = None
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take_note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._is_interrupted:
            raise KeyboardInterrupt
        self._is_interrupted |= number == signal.SIGINT
        StopSignals.asked = StopSignals.asked or signal.Signals(number)  # SLURM's SIGTERM may follow its SIGUSR1
        if number == signal.SIGINT:
            with suppress(OSError):  # not print: it may be what was interrupted
                os.write(2, b"\nStopping after this step. Ctrl-C again stops at once, without saving.\n")


def raise_if_asked() -> None:
    """Call it between two steps, where the state of the run is whole.

    Raises:
        Stopped: a signal has come within the block of `StopSignals`.
    """
    if StopSignals.asked is not None:
        raise Stopped(StopSignals.asked)


def show_stacks_on_quit() -> None:
    """Have SIGQUIT (Ctrl-\\) print where each thread is, before it ends the process as ever."""
    with suppress(
        AttributeError, ValueError, RuntimeError, OSError
    ):  # Windows has no such signal; or there is no stderr
        if signal.getsignal(signal.SIGQUIT) == signal.SIG_DFL:
            faulthandler.register(signal.SIGQUIT, chain=True)


def ignore_stop_signals() -> None:
    """For a loader's worker, which a signal to the whole process group reaches, too: the run still needs it."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


def requeue_in_slurm(by: signal.Signals) -> None:
    """After SIGUSR1 or SIGUSR2, where this is one of SLURM's jobs, ask it to start the job again."""
    job, scontrol = os.environ.get("SLURM_JOB_ID"), shutil.which("scontrol")
    if by.name not in ("SIGUSR1", "SIGUSR2") or job is None or scontrol is None:
        return
    done = subprocess.run([scontrol, "requeue", job], capture_output=True, encoding="utf-8", errors="replace")  # noqa: S603
    if done.returncode == 0:
        log.info("SLURM will start job %s again.", job)
    else:
        log.error("scontrol requeue %s failed: %s", job, done.stderr.strip())
