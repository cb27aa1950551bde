"""torchrun, whose processes are forked from it, not started anew: torch is imported once, which is most of a short run.

What it does with them, its signals, restarts and exit codes, is torchrun's own.
"""

import atexit
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch._dynamo
import torch.distributed.checkpoint
import torch.distributed.fsdp
import torch.distributed.run
import torch.utils.tensorboard
from torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler import SubprocessHandler

import test  # noqa: F401 - what a rank is to find imported
import train  # noqa: F401


class Forked:
    """What torchrun needs of a `subprocess.Popen`."""

    def __init__(self, command, environment):
        self.returncode = None
        sys.stdout.flush(), sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(run(command, environment))

    def poll(self):
        if self.returncode is None and (status := os.waitpid(self.pid, os.WNOHANG)) != (0, 0):
            self.returncode = os.waitstatus_to_exitcode(status[1])
        return self.returncode

    def wait(self, timeout):
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("rank", timeout)
            time.sleep(0.02)
        return self.returncode


def run(command, environment):
    """What `python -u SCRIPT ARGUMENTS` does, in a session of its own; its exit code."""
    os.setsid()
    atexit._clear()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = list(command[2:])
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    code = 0
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush(), sys.stderr.flush()
    return code


if __name__ == "__main__":
    SubprocessHandler._popen = lambda handler, command, environment: Forked(command, environment)
    torch.distributed.run.main()
