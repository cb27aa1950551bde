"""torchrun, for as many runs as are asked for: it and its processes are forked from one that has imported torch, which
is most of a short run. What it does with them, its signals, restarts and exit codes, is torchrun's own.

Each line that it reads is a run: its arguments, environment, files for what it prints, and one for its exit code. It
answers with the number of the process.
"""

import atexit
import json
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
            os.setsid()
            os._exit(code_of(lambda: run_script(command, environment)))

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


def run_script(command, environment):
    """What `python -u SCRIPT ARGUMENTS` does."""
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = list(command[2:])
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


def run_torchrun(arguments, environment, out, err):
    for number, path in enumerate((os.devnull, out, err)):
        os.dup2(os.open(path, os.O_WRONLY if number else os.O_RDONLY), number)
    os.environ.clear()
    os.environ.update(environment)
    torch.distributed.run.main(arguments)


def code_of(program):
    """Its exit code, as a Python that begins with it would have."""
    atexit._clear()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = 0
    try:
        program()
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
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those below
    for line in sys.stdin:
        *asked, code_file = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os.setsid()
            code = code_of(lambda asked=asked: run_torchrun(*asked))
            Path(code_file).write_text(str(code))
            os._exit(code)
        print(pid, flush=True)
