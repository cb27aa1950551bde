"""From the command to the end of the first step, on the embedded digits: `python benchmarks/startup.py`.

The moment is read from the run's own TensorBoard events. Where the time goes comes from a run that is looked at
from inside. Exit code 1 if it takes longer than 1.15 times `import torch, torchvision`, and 0.7 s.
"""

import importlib
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.measure import in_a_terminal  # noqa: E402

REPEATS = 5
FACTOR, MORE_SECONDS = 1.15, 0.7
ONE_STEP = ["trainer.epochs=1", "trainer.epoch_steps=1", "trainer.valid_steps=1", "trainer.log_steps=1"]


def imports() -> float:
    """Seconds of a process that imports torch and torchvision, and does nothing."""
    start = time.time()
    in_a_terminal([sys.executable, "-c", "import torch, torchvision"])
    return time.time() - start


def first_step() -> float:
    """Seconds from the start of the command to the event of its first step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tempfile.TemporaryDirectory() as folder:
        start = time.time()
        settings = [f"trainer.save_dir={folder}", *ONE_STEP]
        in_a_terminal([sys.executable, str(ROOT / "train.py"), "-c", str(ROOT / "config.json"), "--set", *settings])
        (events,) = Path(folder).rglob("events.*")
        return EventAccumulator(str(events)).Reload().Scalars("step/loss")[0].wall_time - start


def print_parts() -> None:
    """Print the seconds of each part of a start; for a process that has imported nothing yet."""
    start = time.perf_counter()

    def part(name: str) -> None:
        nonlocal start
        print(f"  {name:48} {time.perf_counter() - start:5.2f} s")
        start = time.perf_counter()

    import torch  # noqa: F401

    part("import torch")

    importlib.import_module("torch._dynamo")
    part("what torch's optimizers import (torch._dynamo)")
    from base.build import build_trainer
    from base.checks.preflight import check_before_training
    from logger.open_writers import open_writers
    from utils.config.loading import load_config
    from utils.config.plan import make_plan
    from utils.distributed.devices import select_devices

    part("import of the template")
    plan = make_plan(load_config(ROOT / "config.json"))
    part("config: names looked up, arguments bound")
    trainer = build_trainer(plan, select_devices(0), ["train", "valid"], is_new=True)
    part("data, model, optimizer")
    check_before_training(trainer)
    part("trial: a batch each way, schedules tried out")
    with tempfile.TemporaryDirectory() as folder:
        open_writers(Path(folder), True, plan.config, 0, 0).close({})
        part("TensorBoard")


@dataclass(frozen=True)
class Start:
    """Seconds, and the table that says where they go."""

    first_step: float
    limit: float
    text: str


def measure() -> Start:
    found = [(imports(), first_step()) for _ in range(REPEATS)]
    imported, stepped = (median(values) for values in zip(*found, strict=True))
    limit = FACTOR * imported + MORE_SECONDS
    command = [sys.executable, __file__, "--parts"]
    parts = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout  # noqa: S603
    text = (
        f"import torch, torchvision                          {imported:5.2f} s\n"
        f"command to first step                              {stepped:5.2f} s   (at most {limit:.2f}: {FACTOR} times "
        f"that, and {MORE_SECONDS} s)\n{parts.rstrip()}"
    )
    return Start(stepped, limit, text)


if __name__ == "__main__":
    if "--parts" in sys.argv:
        print_parts()
    else:
        started = measure()
        print(started.text)
        sys.exit(started.first_step > started.limit)
