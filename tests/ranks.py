"""Runs of several processes, as torchrun starts them; and what is said of them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from conftest import ROOT, wait_for


def arguments_of(*arguments, processes=2, script="train.py", agent=("--standalone",)):
    return [*agent, f"--nproc_per_node={processes}", script, *map(str, arguments)]


def environment_with(env):
    return os.environ | {"OMP_NUM_THREADS": "1"} | (env or {})


@cache
def server():
    """The process that the others are forked from; it ends with this one."""
    command = [sys.executable, "-u", str(ROOT / "tests" / "forking_torchrun.py")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment_with({}), **pipes)


class Agent:
    """A torchrun, as `subprocess.Popen` has a process. `folder`: for its exit code. `out`, `err`: what it writes to."""

    def __init__(self, arguments, env, folder, out, err):
        self.returncode, self._code = None, folder / "code"
        asked = [arguments, dict(environment_with(env)), str(out), str(err), str(self._code)]
        server().stdin.write(json.dumps(asked) + "\n")
        server().stdin.flush()
        self.pid = int(server().stdout.readline())

    def send_signal(self, number):
        os.kill(self.pid, number)

    def poll(self):
        if self.returncode is None and not Path(f"/proc/{self.pid}").exists():
            self.returncode = int(self._code.read_text()) if self._code.exists() else -signal.SIGKILL
        return self.returncode

    def wait(self, timeout):
        wait_for(lambda: self.poll() is not None, "the end of torchrun", seconds=timeout)

    def communicate(self, timeout=60):
        with self.stdout:
            said = self.stdout.read()
        self.wait(timeout)
        shutil.rmtree(self._code.parent)
        return said, None


def torchrun(*arguments, timeout=120, env=None, **options):
    """Start processes, and wait for the end."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        out, err = folder / "out", folder / "err"
        out.touch(), err.touch()
        agent = Agent(arguments_of(*arguments, **options), env, folder, out, err)
        agent.wait(timeout)
        return subprocess.CompletedProcess(arguments, agent.returncode, out.read_text(), err.read_text())


def start_torchrun(*arguments, env=None, **options):
    """Start them beside the test; what they say is its `stdout`."""
    folder = Path(tempfile.mkdtemp())
    os.mkfifo(folder / "said")
    agent = Agent(arguments_of(*arguments, **options), env, folder, folder / "said", folder / "said")
    agent.stdout = open(folder / "said")
    return agent


def start_torch_distributed_run(*arguments, **options):
    """As `start_torchrun`, by `python -m torch.distributed.run` itself."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    command = [sys.executable, "-m", "torch.distributed.run", *arguments_of(*arguments, **options)]
    return subprocess.Popen(command, cwd=ROOT, env=environment_with({}), start_new_session=True, **pipes)


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
