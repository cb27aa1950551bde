"""How this process was started. Processes that do not know of each other would each train a run of its own, and ranks
that are not there would be waited for."""

import os
import signal
import threading
import time
from contextlib import suppress

from utils.errors import UserError, shown

_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT")
# What other launchers call the number of a process, and how many they have started. SLURM_NTASKS is not among them: it
# is set in a batch script, too, which is one process.
_OTHERS = {
    "srun": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    "mpirun": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    "mpiexec": ("PMI_RANK", "PMI_SIZE"),
    "mpirun of MVAPICH": ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
    "prterun": ("PMIX_RANK", "PMIX_SIZE"),
    "jsrun": ("JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE"),
}


_AGENT_SECONDS = 1.0  # between two looks at whether torchrun lives
_END_SECONDS = 30.0  # for a rank that cannot stop, as torchrun leaves one after SIGTERM


def end_with_agent() -> None:
    """Have a process that torchrun has started stop as after SIGTERM when torchrun itself is killed; one that hangs is
    ended."""
    if os.environ.get("TORCHELASTIC_RUN_ID"):
        with suppress(RuntimeError):  # where no thread can be started, there is no such watch
            threading.Thread(target=_follow, args=[os.getppid()], daemon=True).start()


def _follow(agent: int) -> None:
    while os.getppid() == agent:
        time.sleep(_AGENT_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_END_SECONDS)
    os._exit(128 + signal.SIGTERM)


def check_launch() -> None:
    """Check what the environment says of this process and of others beside it. An empty variable is none.

    Raises:
        UserError: it contradicts itself; or another launcher than torchrun has started several processes.
    """
    found = {name: value for name in _NUMBERS if (value := os.environ.get(name))}
    for name, value in found.items():
        if not _is_number(value):
            raise UserError(f"{name}: found {shown(value)} in the environment, not a number. {_way_out(name)}")
    missing = [name for name in ("RANK", "WORLD_SIZE") if name not in found]
    if len(missing) == 2:
        return _check_other_launchers()
    ranks = int(found.get("WORLD_SIZE", 0))
    if ranks > 1:
        missing += [name for name in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        raise UserError(f"{missing[0]}: missing in the environment, which has {_shown(found)}. {_way_out(*found)}")
    if int(found["RANK"]) >= ranks:
        raise UserError(f"RANK: found {found['RANK']} in the environment, of {ranks} processes. {_way_out(*found)}")


def _check_other_launchers() -> None:
    for launcher, names in _OTHERS.items():
        number, count = (int(value) if _is_number(value) else 0 for value in (os.environ.get(n, "") for n in names))
        if number > 0 or count > 1:
            many = f"{count} processes" if count > 1 else "several processes"
            raise UserError(
                f"{names[0]}: {launcher} has started {many}, and each would train a run of its own. Let torchrun start "
                f"those that train together: scripts/slurm.sbatch, docs/scaling.md. {_way_out(*names)}"
            )


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdecimal() and len(value) < 10


def _shown(found: dict[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in found.items())


def _way_out(*names: str) -> str:
    return f"For a run of this process alone: env {' '.join(f'-u {name}' for name in names)} python ..."
