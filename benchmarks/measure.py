"""Processes measured side by side: each contender between two floors, round after round."""

import json
import os
import pty
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median

ROOT = Path(__file__).resolve().parent.parent
FLOOR = "bare loop"


@dataclass
class Row:
    """What one contender has shown, a value a round. `seconds`: of an epoch; `megabytes`: the most that was there."""

    ratios: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return median(self.ratios)


def side_by_side(workload: str, names: list[str], rounds: int) -> dict[str, Row]:
    """Every contender, `rounds` times; its ratio is to the mean of the floors that ran just before and after it."""
    rows = {name: Row() for name in (FLOOR, *names)}
    before = run(FLOOR, workload)
    for number in range(rounds):
        for name in names:
            found, after = run(name, workload), run(FLOOR, workload)
            for row, measured in ((rows[name], found), (rows[FLOOR], after)):
                row.seconds.append(measured["epoch"])
                row.losses.append(measured["loss"])
                row.megabytes.append(measured["megabytes"])
            rows[name].ratios.append(found["epoch"] / mean((before["epoch"], after["epoch"])))
            rows[FLOOR].ratios.append(after["epoch"] / before["epoch"])
            before = after
            print(f"{workload}, round {number + 1}: {name:22} {found['epoch']:7.3f} s {rows[name].ratios[-1]:6.2f}")
    return rows


def run(name: str, workload: str) -> dict[str, float]:
    """One contender in a process of its own; the seconds of an epoch: the median of those after the first."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.json")
        command = [sys.executable, str(ROOT / "benchmarks" / "contenders.py"), name, workload, str(out)]
        megabytes = in_a_terminal(command)
        found = json.loads(out.read_text())
    return {"epoch": median(found["seconds"][1:]), "loss": found["loss"], "megabytes": megabytes}


def in_a_terminal(command: list[str]) -> float:
    """Run a command with a terminal for its progress bar; the peak of its resident set in MB."""
    master, slave = pty.openpty()
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, cwd=ROOT)  # noqa: S603
    os.close(slave)
    said = b""
    try:
        while part := os.read(master, 1 << 16):
            said = (said + part)[-4000:]
    except OSError:  # its end has closed the terminal
        pass
    os.close(master)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{' '.join(command)} has failed:\n{said.decode(errors='replace')}")
    return usage.ru_maxrss / 1024
