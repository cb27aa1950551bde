"""Where the time of a step goes: torch's profiler around training steps as a run makes them."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerAction, ProfilerActivity, record_function

from base.base_trainer import BaseTrainer
from utils.errors import UserError
from utils.paths import shown_path

log = logging.getLogger(__name__)
WARM_UP_STEPS, STEPS = 3, 10  # the first steps choose algorithms, and make the optimizer's state
ROWS, NAME_WIDTH = 15, 36  # of the table


def profile(trainer: BaseTrainer, folder: Path) -> None:
    """Print what takes the longest in training steps, and write a trace into `folder`: `tensorboard --logdir` with its
    profiler plugin finds it there, or from any folder above, and https://ui.perfetto.dev opens it.

    Raises:
        UserError: nothing can be written there.
    """
    with _told_if_not_written(folder):
        folder.mkdir(parents=True, exist_ok=True)
    profiler, timing = _profiled_steps(trainer)
    print(timing)
    slowest = "self_cuda_time_total" if _is_on_cuda(trainer) else "self_cpu_time_total"
    print(profiler.key_averages().table(sort_by=slowest, row_limit=ROWS, max_name_column_width=NAME_WIDTH))
    path = folder / f"train.{time.time_ns()}.pt.trace.json.gz"  # the plugin wants a name, a time, and this ending
    temporary = folder / f".{path.name}"  # the profiler packs what ends in .gz
    try:
        with _told_if_not_written(folder):
            profiler.export_chrome_trace(str(temporary))
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    log.info("Trace for TensorBoard and https://ui.perfetto.dev: %s", shown_path(path))


@contextmanager
def _told_if_not_written(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"--profile: {shown_path(folder)} cannot be written: {error.strerror or error}.") from error


def _profiled_steps(trainer: BaseTrainer) -> tuple[torch.profiler.profile, str]:
    """At most an epoch. The profiler, which has seen the steps after the warm-up; and a line that times them."""
    batches = trainer.run.batches["train"]
    count = min(WARM_UP_STEPS + STEPS, trainer.run.options.epoch_steps or batches.steps_per_pass() or STEPS)
    warm_up = min(WARM_UP_STEPS, count - 1)
    trainer.set_training(True)
    trainer.metrics.reset()
    start = waited = 0.0
    loaded = batches.epoch(count)
    cycle = _schedule(warm_up, count)
    with torch.profiler.profile(activities=_activities(trainer), schedule=cycle, acc_events=True) as profiler:
        for number in range(count):
            if number > 0:
                profiler.step()
            if number == warm_up:
                start, waited = _now(trainer), 0.0
            asked = time.perf_counter()
            with record_function("load batch"):
                batch = next(loaded)
            waited += time.perf_counter() - asked
            with record_function("train_step"):
                trainer.result_of(trainer.train_step, batch, batches.samples)
            trainer.step += 1
        seconds = _now(trainer) - start
    trainer.metrics.reset()
    batches.load_state_dict(batches.state_dict())  # which lets the loader's workers go
    steps = count - warm_up
    shares = f"{seconds / steps:.4g} s a step, {waited / seconds:.0%} of it waiting for data"
    return profiler, f"profile: {shares} ({steps} steps after {warm_up} to warm up)"


def _activities(trainer: BaseTrainer) -> list[ProfilerActivity]:
    if _is_on_cuda(trainer):
        return [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # or it would print that it finds no GPU
    return [ProfilerActivity.CPU]


def _schedule(warm_up: int, count: int) -> Any:
    """What the profiler does in each step; torch's own `schedule` does not know a run without warm-up."""
    recorded = [ProfilerAction.RECORD] * (count - warm_up - 1) + [ProfilerAction.RECORD_AND_SAVE]
    return dict(enumerate([ProfilerAction.WARMUP] * warm_up + recorded)).get


def _is_on_cuda(trainer: BaseTrainer) -> bool:
    return trainer.run.devices.main.type == "cuda"


def _now(trainer: BaseTrainer) -> float:
    """The time at which the device has done what it was asked to."""
    if _is_on_cuda(trainer):
        torch.cuda.synchronize()
    return time.perf_counter()
