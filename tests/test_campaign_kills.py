"""SIGKILL at random moments, for every way to train: the same command again ends with the same bits.

`make faults` repeats it as often as is promised.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, assert_same, load, metrics_of, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]
FULL = {"type": "FullTrainer", "args": {"ema_decay": 0.9, "micro_batch_size": 8, "amp": "bf16"}}

MARK = "CAMPAIGN_OF_KILLS"  # in the environment of each process of a run
SMALL = {"type": "LeNet", "args": {"num_classes": 10, "channels": [4, 8], "hidden": 16}}
DIGITS = {"type": "Digits", "args": {"train_transform": [{"type": "RandomShift", "args": {"padding": 1}}]}}
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


def digits(epochs=3, **sections):
    config = json.loads((ROOT / "tests" / "config.json").read_text()) | {"model": SMALL, "dataset": DIGITS}
    config["data_loader"] = {"batch_size": 32}
    config["trainer"] |= {"epochs": epochs, "save_steps": 7, "tensorboard": False} | sections.pop("trainer", {})
    return config | sections


def example(name, **trainer):
    config = json.loads((ROOT / "examples" / name / "config.json").read_text())
    config["trainer"] |= {"tensorboard": False, "save_steps": 5, "epochs": 2} | trainer
    return config


PLATEAU = {"type": "ReduceLROnPlateau", "args": {"patience": 0}}
FSDP = {"type": "fsdp", "args": {"modules": ["Conv2d"]}}
RUNS = {  # launcher, config, arguments
    "plain": ([], digits(lr_scheduler=PLATEAU), ["-r", "auto"]),
    "options": ([], digits(trainer=FULL), ["-r", "auto"]),
    "ddp": (TORCHRUN, digits(), ["-r", "auto", "-d", "cpu"]),
    "fsdp": (TORCHRUN, digits(parallel=FSDP), ["-r", "auto", "-d", "cpu"]),
    "folds": ([], digits(epochs=2), ["--folds", "2"]),
    "seeds": ([], digits(epochs=2), ["--seeds", "1,2"]),
}
if (ROOT / "examples").is_dir():  # a copy may be without
    RUNS["gan"] = [], example("gan"), ["-r", "auto"]
    RUNS["language_model"] = [], example("language_model", epoch_steps=15, valid_steps=5), ["-r", "auto"]


def processes():
    """The living processes of this test's runs, ranks and workers among them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_own = f"{MARK}={os.getpid()}\0".encode() in (folder / "environ").read_bytes()
            if is_own and "\nState:\tZ" not in (folder / "status").read_text():
                found.append(int(folder.name))
        except OSError:  # it has just ended
            continue
    return found


def kill_all():
    for process in processes():
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue
    wait_for(lambda: not processes(), "the end of all processes")


def run_once(launcher, config, arguments, seconds=None):
    """The exit code; None where all its processes were killed after so many seconds."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", MARK: str(os.getpid())}
    command = [sys.executable, *launcher, "train.py", "-c", str(config), *arguments]
    with open(config.with_name("output"), "w+b") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            code = process.wait(seconds or 600)
        except subprocess.TimeoutExpired:
            assert seconds is not None, f"a run that does not end: {config.with_name('output').read_text()}"
            kill_all()
            process.wait()
            return None
    assert code == 0, config.with_name("output").read_text()
    wait_for(lambda: not processes(), "the end of all processes")
    return code


def written(folder, content):
    folder.mkdir()
    content["trainer"]["save_dir"] = str(folder / "saved")
    (folder / "config.json").write_text(json.dumps(content))
    return folder / "config.json"


def run_dirs(config):
    """Those with a checkpoint: a kill before the first one leaves a directory that is no run."""
    return sorted(path.parent for path in config.parent.glob("saved/*/*/last.pth"))


@pytest.mark.parametrize("kind", RUNS)
def test_a_run_that_is_killed_again_and_again_ends_the_same(tmp_path, times, kind):
    launcher, content, arguments = RUNS[kind]
    whole = written(tmp_path / "whole", content)
    start = time.monotonic()
    run_once(launcher, whole, arguments)
    seconds = time.monotonic() - start
    draw, kills = random.Random(kind), 0
    for trial in range(times(1, 4)):
        config = written(tmp_path / f"trial{trial}", content)
        for _ in range(times(1, 4)):
            kills += run_once(launcher, config, arguments, draw.uniform(0.3, 1.0) * seconds) is None
        run_once(launcher, config, arguments)
        assert len(run_dirs(config)) == len(run_dirs(whole))
        for one, other in zip(run_dirs(whole), run_dirs(config), strict=True):
            assert metrics_of(one) == metrics_of(other)
            names = {path.name for path in one.glob("*.pth")}
            assert names == {path.name for path in other.glob("*.pth")}
            for name in names:
                first, second = load(one / name), load(other / name)
                for key in set(first) - {"config", "shards"}:  # where it is saved, and when
                    assert_same(first[key], second[key], f"{name}: {key}")
    print(f"{kind}: {kills} kills")
