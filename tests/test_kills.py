"""SIGKILL at any moment: every file is whole, and the run goes on to the same end."""

import multiprocessing
import os
import random
import signal
import subprocess
import time

import pytest
import torch
from conftest import assert_same, load, metrics_of, start_training

from base.checkpoints import LAST
from utils.checkpoints.checkpoint import load_training_checkpoint, save_checkpoint
from utils.checkpoints.run_checkpoints import BEST, drop_later, keep_newest, numbered_name

pytestmark = pytest.mark.faults


def save_for_ever(folder, first):
    """Checkpoints of 4 MB, back to back; their number is in them, and in each tensor."""
    torch.set_num_threads(1)
    state = dict.fromkeys(("monitor", "batches", "rng", "config"), {}) | {"format": 2}
    for epoch in range(first, first + 10_000):
        model = {f"weight{i}": torch.full((250_000,), float(epoch)) for i in range(4)}
        names = [numbered_name("epoch", epoch), *([BEST] * (epoch % 3 == 0)), LAST]
        save_checkpoint(folder, state | {"epoch": epoch, "step": epoch, "model": model}, names)
        keep_newest(folder, 2)


def test_a_kill_during_saves_leaves_every_file_whole(tmp_path, times):
    """A forked process saves for ever, until SIGKILL; another one goes on."""
    draw, epoch, leftovers = random.Random(0), 0, 0
    for _ in range(times(5, 50)):
        process = multiprocessing.get_context("fork").Process(target=save_for_ever, args=(tmp_path, epoch + 1))
        process.start()
        while not list(tmp_path.glob(numbered_name("epoch", epoch + 1))):
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.15))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        for path in tmp_path.glob("*.pth"):
            checkpoint = load_training_checkpoint(path)
            assert all((weight == checkpoint["epoch"]).all() for weight in checkpoint["model"].values())
        before, epoch = epoch, load_training_checkpoint(tmp_path / LAST)["epoch"]
        assert epoch > before
        leftovers += len(list(tmp_path.glob(".*")))
        drop_later(tmp_path, epoch, epoch)
        assert not list(tmp_path.glob(".*"))
    assert leftovers, "no kill fell into a save: nothing was tested"


def test_a_run_killed_at_any_moment_ends_as_the_one_that_was_not(project, times):
    """Real commands, with workers, augmentation, dropout and a schedule; started again with the same command line."""
    config = project.write_config(
        dataset={"type": "Digits", "args": {"train_transform": [{"type": "RandomShift", "args": {"padding": 1}}]}},
        data_loader={"batch_size": 8, "num_workers": 2},
        lr_scheduler={"type": "CosineAnnealingLR", "args": {"T_max": 4}},
        trainer={"epochs": 4, "save_steps": 50},
    )
    start = time.monotonic()
    assert run_until_killed(config, None) == 0
    seconds = time.monotonic() - start
    (whole,) = project.run_dirs()
    draw = random.Random(0)
    for trial in range(times(1, 30)):
        arguments = ["--set", f"name=trial{trial}", "-r", "auto"]
        codes = [run_until_killed(config, draw.uniform(0.3, 1.0) * seconds, *arguments) for _ in range(2)]
        while codes[-1] != 0:
            assert codes[-1] == -signal.SIGKILL
            codes.append(run_until_killed(config, None, *arguments))
        (run,) = (project.folder / "saved" / f"trial{trial}").glob("*-*")
        one, other = (load(path / LAST) for path in (whole, run))
        for key in set(one) - {"config"}:  # it has another name
            assert_same(one[key], other[key], key)
        assert metrics_of(whole) == metrics_of(run)


def run_until_killed(config, seconds, *arguments):
    process = start_training("-c", config, *arguments)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
    out, _ = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), out
    return process.returncode
