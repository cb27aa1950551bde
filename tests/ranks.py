"""Runs of several processes, as torchrun starts them; and what is said of them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from conftest import ROOT, wait_for

AGENT = ["-m", "torch.distributed.run"]


def command(*arguments, processes=2, script="train.py", agent=("--standalone",)):
    return [sys.executable, *AGENT, *agent, f"--nproc_per_node={processes}", script, *map(str, arguments)]


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
    """The process ids of an agent's ranks, in order."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and _parent(folder) == agent.pid:
            variables = _environment(folder)
            if "RANK" in variables:
                found[int(variables["RANK"])] = int(folder.name)
    return [found[number] for number in sorted(found)]


def _parent(folder):
    try:
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def _environment(folder):
    try:
        text = (folder / "environ").read_bytes().decode(errors="replace")
    except OSError:
        return {}
    return dict(line.split("=", 1) for line in text.split("\0") if "=" in line)


def run_dir_with(folder, text, agent):
    """The run directory below a folder, once its log has a text."""

    def found():
        assert agent.poll() is None, agent.communicate()[0]
        return [path.parent for path in folder.glob("saved/*/*/train.log") if text in path.read_text()]

    return wait_for(found, f"{text!r} in the log")[0]


def stop(process, number=signal.SIGTERM):
    os.kill(process if isinstance(process, int) else process.pid, number)
