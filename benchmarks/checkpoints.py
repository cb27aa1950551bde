"""What a safe save and a verified load cost beside `torch.save` and `torch.load`, and beside an epoch of training.

    python benchmarks/checkpoints.py [FOLDER]

A checkpoint of 100 MB is written and read in FOLDER (default: the working directory), by turns; medians and ratios.
With Fashion-MNIST in data/, three epochs of `configs/fashion_mnist.json` are trained, too.
"""

import ctypes
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

import base.checkpoints  # noqa: E402
import train  # noqa: E402
from utils.checkpoints import run_checkpoints  # noqa: E402
from utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402

REPEATS = 15


def interleaved(**contenders):
    """Seconds of each, called by turns so that what else the machine does meets all of them."""
    seconds = {name: [] for name in contenders}
    for _ in range(REPEATS):
        for name, contender in contenders.items():
            start_even()
            start = time.perf_counter()
            contender()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def start_even():
    """Nobody finds the memory of the one before (four times as fast), or waits for what that left to be written."""
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
        os.sync()


def table(title, seconds):
    """Medians with their range, and the ratio of the first two rows' medians."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"\n{title}")
    for name, values in seconds.items():
        print(f"  {name:<28} {medians[name] * 1e3:7.1f} ms  ({min(values) * 1e3:.1f} to {max(values) * 1e3:.1f})")
    plain, safe = list(medians.values())[:2]
    print(f"  ratio {safe / plain:.2f}")


def files_of(megabytes, folder):
    state = {"model": {f"weight{i}": torch.randn(250_000) for i in range(megabytes)}}
    plain = folder / "plain.pth"
    table(f"save, {megabytes} MB", interleaved(
        torch_save=lambda: torch.save(state, plain),
        save_checkpoint=lambda: save_checkpoint(folder, state, ["last.pth"]),
    ))  # fmt: skip
    table(f"load, {megabytes} MB", interleaved(
        torch_load=lambda: torch.load(plain, weights_only=True),
        load_checkpoint=lambda: load_checkpoint(folder / "last.pth"),
    ))  # fmt: skip


def share_of_a_run(folder):
    """Seconds in saves and loads, of those of a run that saves each epoch, and of its resume."""
    spent = {"save": 0.0, "load": 0.0}

    def timed(function, name):
        def call(*arguments):
            start = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                spent[name] += time.perf_counter() - start

        return call

    base.checkpoints.save_checkpoint = timed(save_checkpoint, "save")
    run_checkpoints.load_training_checkpoint = timed(run_checkpoints.load_training_checkpoint, "load")
    config = ["-c", str(ROOT / "configs" / "fashion_mnist.json")]
    settings = ["--set", f"trainer.save_dir={folder}/saved"]
    start = time.perf_counter()
    train.main([*config, *settings, "trainer.epochs=2"])
    (run,) = (folder / "saved").glob("*/*")
    train.main(["-r", str(run), "--set", "trainer.epochs=3"])
    seconds = time.perf_counter() - start
    epochs = sum(json.loads(line)["seconds"] for line in (run / "metrics.jsonl").read_text().splitlines())
    print(f"\nFashion-MNIST, 2 epochs, resumed for a third: {seconds:.1f} s, of which {epochs:.1f} s in epochs")
    print(f"  saves {spent['save']:.3f} s, loads {spent['load']:.3f} s: {sum(spent.values()) / seconds:.2%} of the run")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else ".") as name:
        files_of(100, Path(name))
        if (ROOT / "data" / "FashionMNIST").is_dir():
            share_of_a_run(Path(name))
