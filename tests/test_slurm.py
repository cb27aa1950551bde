"""scripts/slurm.sbatch, with programs in the place of SLURM's that do what they are documented to do here."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, load, wait_for
from ranks import run_dir_with

SRUN = """#!/bin/bash
# a task a node: here both nodes are this machine
for node in $(seq "$SLURM_NNODES"); do "$@" & done
trap : USR1
trap 'kill $(jobs -p)' TERM EXIT
while [ -n "$(jobs -p)" ]; do wait $(jobs -p); code=$?; [ -n "$(jobs -rp)" ] || exit $code; done
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then echo 127.0.0.1; else echo "$@" >> "$SCONTROL_LOG"; fi
"""


@pytest.fixture
def job(tmp_path):
    """Start the script as a job of two nodes."""
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    slurm = {
        "SLURM_NNODES": "2",
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "here",
        "SCONTROL_LOG": str(tmp_path / "log"),
    }
    environment = os.environ | slurm | {"PATH": path, "RENDEZVOUS_PORT": "29719"}

    def start(*arguments):
        command = ["bash", str(ROOT / "scripts" / "slurm.sbatch"), *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **pipes)

    return start


def test_a_job_is_requeued_when_its_time_is_over_and_goes_on(project, job, tmp_path):
    config = project.write_config(trainer={"epochs": 400})
    first = job("-c", config)
    run = run_dir_with(tmp_path, "New run", first)
    wait_for(lambda: (run / "metrics.jsonl").exists(), "an epoch")
    time.sleep(1)
    os.killpg(first.pid, signal.SIGUSR1)  # as SLURM does, to all of the step
    said, _ = first.communicate(timeout=90)
    assert said.count("Saved after step") == 1, said
    assert (tmp_path / "log").read_text() == "requeue 7\n"
    step = load(run / "last.pth")["step"]
    second = job("-c", config, "--set", f"trainer.epochs={step // 20 + 2}")
    said, _ = second.communicate(timeout=90)
    assert second.returncode == 0, said
    assert project.run_dirs() == [run] and "Going on after" in said
