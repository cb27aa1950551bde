"""`train.py` where no more than so many processes or threads can be started, once a case; forked from one process,
since imports are most of a short run.

    python limited_train.py CONFIG CASE...

A case is "forks=2" or "threads=12" (how many can be started before each further one fails), or "pids=9", the limit of
the cgroup $CGROUP, as docker sets it; then values of the config. For each: a line of JSON, {code, left, said}. The code
of a run that hangs is null; left is how many of its processes are there ten seconds after its end.
"""

import json
import multiprocessing.util
import os
import signal
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

import train
from utils.exit_codes import exit_code_of

SECONDS = 100.0  # after which a run hangs


def limited(module, name, count, error):
    """Have a function fail after so many calls."""
    function, calls = getattr(module, name), []

    def call(*arguments, **options):
        calls.append(name)
        if len(calls) > count:
            raise error
        return function(*arguments, **options)

    setattr(module, name, call)


def limit(kind, count):
    count = int(count)
    no_process = BlockingIOError(11, "Resource temporarily unavailable")
    if kind == "forks":
        limited(os, "fork", count, no_process)
        limited(multiprocessing.util, "spawnv_passfds", count, no_process)
    elif kind == "threads":
        limited(threading, "_start_new_thread", count, RuntimeError("can't start new thread"))
    else:
        Path(os.environ["CGROUP"], "pids.max").write_text(str(count))
        Path(os.environ["CGROUP"], "cgroup.procs").write_text(str(os.getpid()))


def alive_in(session):
    """The processes of a session that have not ended."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, found = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if state != "Z" and int(found) == session:
            yield int(stat.parent.name)


def result_of(pid, said):
    end = time.monotonic() + SECONDS
    while (done := os.waitpid(pid, os.WNOHANG))[0] == 0 and time.monotonic() < end:
        time.sleep(0.02)
    is_hung, end = done[0] == 0, time.monotonic() + 10
    while (left := list(alive_in(pid))) and not is_hung and time.monotonic() < end:
        time.sleep(0.02)
    for number in left:
        os.kill(number, signal.SIGKILL)
    if is_hung:
        os.waitpid(pid, 0)
    code = None if is_hung else os.waitstatus_to_exitcode(done[1])
    return {"code": code, "left": len(left), "said": said.read_text()}


def main(config, *cases):
    said = Path(config).with_name("said")
    for case in cases:
        given, *values = case.split()
        said.write_text("")
        pid = os.fork()
        if pid == 0:
            os.setsid()
            for number in (1, 2):
                os.dup2(os.open(said, os.O_WRONLY | os.O_APPEND), number)
            limit(*given.split("="))
            sys.exit(
                exit_code_of(lambda values=values: train.main(["-c", config, "--set", "trainer.epochs=2", *values]))
            )
        print(json.dumps(result_of(pid, said)), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
