"""Whole runs of the template, looked at from outside: does its memory grow, does it wait for data."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.workloads import ROOT, WORKLOADS


def watched_run(workload: str, epochs: int) -> tuple[list[float], dict[str, Any]]:
    """Train to the end: MB that were resident after each epoch, and the last line of metrics.jsonl."""
    with tempfile.TemporaryDirectory() as folder:
        config = WORKLOADS[workload].config(f"{folder}/saved")
        config["trainer"]["epochs"] = epochs
        path = Path(folder, "config.json")
        path.write_text(json.dumps(config))
        command = [sys.executable, "train.py", "-c", str(path), "-d", "cpu"]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
        resident: list[float] = []
        lines: list[str] = []
        while process.poll() is None:
            lines = [
                line for file in Path(folder).glob("saved/*/*/metrics.jsonl") for line in file.read_text().splitlines()
            ] or lines
            if len(lines) > len(resident):
                resident.append(megabytes_of(process.pid))
            time.sleep(0.02)
        assert process.returncode == 0
        (file,) = Path(folder).glob("saved/*/*/metrics.jsonl")
        return resident, json.loads(file.read_text().splitlines()[-1])


def megabytes_of(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def growth(epochs: int = 20) -> float:
    """MB from the end of epoch 2 to the last one that was seen."""
    resident, _ = watched_run("linear", epochs)
    return resident[-1] - resident[1]


def wait_share(epochs: int = 2) -> float:
    """The part of the last epoch in which a ResNet-18, on augmented images, had no batch."""
    return watched_run("resnet", epochs)[1]["data_wait_share"]
