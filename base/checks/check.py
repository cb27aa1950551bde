"""Look at a run before it starts: the mistakes that train badly instead of failing, and how long it will take."""

import sys
import time
from collections.abc import Iterator
from itertools import islice
from statistics import median
from typing import Any

import torch
from torch import nn

from base.base_trainer import BaseTrainer
from base.checks.check_data import check_data
from base.checks.check_loss import check_loss
from base.checks.check_step import GradientWatch, check_parameters, check_zero_grad, counted
from base.checks.rehearsal import TrainerSnapshot
from base.checks.report import Report
from utils.disk import readable_size
from utils.distributed.devices import Devices

try:
    import resource
except ImportError:  # Windows has none
    resource = None  # type: ignore[assignment]

LOSS_STEPS, ZERO_GRAD_STEPS, TIMED_STEPS = 2, 2, 20
WARM_UP_STEPS = 5  # workers start, kernels are chosen
MOST_SECONDS = 10.0  # for the timed steps of a split


def check(trainer: BaseTrainer) -> None:
    """Make a few steps, read the data, print what was found. Writes nothing; the trainer is put back as it was.

    Raises:
        UserError: there are problems; a line each.
    """
    report, start, run = Report(), TrainerSnapshot(trainer), trainer.run
    train = run.batches["train"]
    positions = {split: batches.state_dict() for split, batches in run.batches.items()}
    _describe_model(trainer, report)
    trainer.set_training(True)
    with GradientWatch(trainer) as gradients:
        classes = check_loss(trainer, counted(train, train.epoch(LOSS_STEPS)), report)
        check_zero_grad(trainer, counted(train, train.epoch(ZERO_GRAD_STEPS)), report)
        _reset_memory(run.devices)
        seconds = {"train": _seconds_per_step(trainer, "train", TIMED_STEPS)}
    check_parameters(trainer, gradients, report)
    if "valid" in run.batches:
        trainer.set_training(False)
        with torch.no_grad():
            seconds["valid"] = _seconds_per_step(trainer, "valid", TIMED_STEPS)
    memory = _peak_memory(run.devices, start)
    start.put_back()
    for split, position in positions.items():
        run.batches[split].load_state_dict(position)
    check_data(run.batches, classes, report)
    start.put_back_generators()
    _describe_time(trainer, seconds, report)
    report.row("peak memory", memory)
    report.close()


def _describe_model(trainer: BaseTrainer, report: Report) -> None:
    modules = trainer.parts(nn.Module)
    names = {name: type(module).__name__ for name, module in modules.items()}
    report.row("model", ", ".join(f"{key} {name}" if len(names) > 1 else name for key, name in names.items()))
    parameters = {parameter for module in modules.values() for parameter in module.parameters()}
    trainable = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    report.row("parameters", f"{sum(parameter.numel() for parameter in parameters):,} ({trainable:,} trainable)")


def _seconds_per_step(trainer: BaseTrainer, split: str, most: int) -> float:
    """The median over some steps, each with the loading of its batch."""
    is_training, batches, all_seconds = split == "train", trainer.run.batches[split], []
    source: Iterator[Any] = batches.epoch(most) if is_training else islice(batches.epoch(), most)
    begin = start = time.perf_counter()
    for batch in source:
        trainer.result_of(trainer.train_step if is_training else trainer.valid_step, batch, batches.samples)
        trainer.step += is_training
        _wait_for(trainer.run.devices)
        now = time.perf_counter()
        all_seconds.append(now - start)
        start = now
        if now - begin > MOST_SECONDS:
            break
    return median(all_seconds[WARM_UP_STEPS:] or all_seconds[1:] or all_seconds or [0.0])


def _wait_for(devices: Devices) -> None:
    if devices.main.type == "cuda":
        torch.cuda.synchronize(devices.main)
    elif devices.main.type == "mps":
        torch.mps.synchronize()


def _reset_memory(devices: Devices) -> None:
    if devices.main.type == "cuda":
        torch.cuda.reset_peak_memory_stats(devices.main)


def _peak_memory(devices: Devices, snapshot: TrainerSnapshot) -> str:
    """Of the process, and of the device without what the check itself keeps there."""
    sizes = []
    if resource is not None:
        unit = 1 if sys.platform == "darwin" else 1024
        sizes.append(f"{readable_size(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)} of the process")
    if devices.main.type == "cuda":
        sizes.append(
            f"{readable_size(torch.cuda.max_memory_allocated(devices.main) - snapshot.nbytes)} on {devices.main}"
        )
    return ", ".join(sizes) or "unknown on this system"


def _describe_time(trainer: BaseTrainer, seconds: dict[str, float], report: Report) -> None:
    options, batches = trainer.run.options, trainer.run.batches
    for split, value in seconds.items():
        name = "training" if split == "train" else "validation"
        report.row(f"seconds a {name} step", f"{value:.3g}, with the loading of its batch")
    epochs = options.epochs - trainer.epochs_done
    steps = {split: batches[split].steps_per_pass() for split in seconds} | (
        {"train": options.epoch_steps} if options.epoch_steps else {}
    )
    known = {split: count for split, count in steps.items() if count is not None}
    if "train" not in known:
        report.row("time of the run", "unknown length; trainer.epoch_steps would tell")
        return
    duration = _readable(epochs * sum(count * seconds[split] for split, count in known.items()))
    what = f"{epochs:,} epochs of {' + '.join(f'{count:,}' for count in known.values())} steps"
    unknown = "" if known == steps else ", and a validation of unknown length"
    report.row("time of the run", f"{duration}: {what}{unknown}")


def _readable(seconds: float) -> str:
    """A duration in its two largest units."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 1 else "less than 1 s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    counts = {"days": days, "h": hours, "min": minutes, "s": seconds}
    first = next(i for i, count in enumerate(counts.values()) if count)
    return " ".join(f"{count} {unit}" for unit, count in list(counts.items())[first : first + 2] if count)
