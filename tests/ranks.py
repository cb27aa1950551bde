"""Runs of several processes, as torchrun starts them; and what is said of them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from conftest import ROOT, wait_for

TORCHRUN = ["-m", "torch.distributed.run"]
FORKING = ["-u", str(ROOT / "tests" / "forking_torchrun.py")]


def command(*arguments, processes=2, script="train.py", agent=("--standalone",), program=FORKING):
    return [sys.executable, *program, *agent, f"--nproc_per_node={processes}", script, *map(str, arguments)]


def torchrun(*arguments, timeout=120, env=None, **options):
    """Start them, and wait for the end."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | (env or {})
    return subprocess.run(
        command(*arguments, **options), cwd=ROOT, capture_output=True, text=True, timeout=timeout, env=environment
    )


def start_torchrun(*arguments, env=None, **options):
    """Start them beside the test, in a process group of their own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | (env or {})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command(*arguments, **options), cwd=ROOT, env=environment, start_new_session=True, **pipes)


def ranks_of(agent):
    """The process ids of an agent's ranks, in the order in which it has started them."""
    folders = [folder for folder in Path("/proc").iterdir() if folder.name.isdigit()]
    return sorted(int(folder.name) for folder in folders if _parent(folder) == agent.pid)


def _parent(folder):
    try:
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def run_dir_with(folder, text, agent):
    """The run directory below a folder, once its log has a text."""

    def found():
        assert agent.poll() is None, agent.communicate()[0]
        return [path.parent for path in folder.glob("saved/*/*/train.log") if text in path.read_text()]

    return wait_for(found, f"{text!r} in the log")[0]


def stop(process, number=signal.SIGTERM):
    os.kill(process if isinstance(process, int) else process.pid, number)
