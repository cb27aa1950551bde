"""What each lever does to a step, on this machine: `python benchmarks/levers.py [WORKLOAD ...]`.

The bare step on one batch, changed in one thing at a time; all variants take turns in one process, and a ratio is the
median of those to the plain step of the same turn. On a GPU where there is one.
"""

import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from benchmarks.workloads import WORKLOADS, Workload  # noqa: E402

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TURNS, TURN_SECONDS = 9, 0.4
PLAIN = "plain step"
Step = Callable[[], None]


def make_step(
    workload: Workload,
    is_channels_last: bool = False,
    is_bf16: bool = False,
    is_compiled: bool = False,
    is_pinned: bool | None = None,
    **optimizer_args: Any,
) -> Step:
    """One training step on a batch that is on the device already; or, where `is_pinned` says from what kind of memory,
    that is copied in each step."""
    memory_format = torch.channels_last if is_channels_last else torch.contiguous_format
    model = workload.make_model().to(DEVICE, memory_format=memory_format).train()
    optimizer = workload.make_optimizer(model, **optimizer_args)
    forward = torch.compile(model) if is_compiled else model
    inputs, targets = (tensor[: workload.batch_size].to(DEVICE) for tensor in workload.normalized())
    inputs = inputs.to(memory_format=memory_format)
    if is_pinned is not None:
        inputs = inputs.cpu().pin_memory() if is_pinned else inputs.cpu()
    autocast = torch.autocast(DEVICE.type, torch.bfloat16) if is_bf16 else nullcontext()

    def step() -> None:
        optimizer.zero_grad()
        with autocast:
            loss = workload.loss_fn(forward(inputs.to(DEVICE, non_blocking=True)), targets)
        loss.backward()
        optimizer.step()

    return step


def with_setting(step: Step, change: Callable[[], None], undo: Callable[[], None]) -> Step:
    def changed() -> None:
        change()
        try:
            step()
        finally:
            undo()

    return changed


def variants(workload: Workload) -> dict[str, Step]:
    plain, threads = make_step(workload), torch.get_num_threads()
    steps = {
        PLAIN: plain,
        "foreach optimizer": make_step(workload, foreach=True),
        "fused optimizer": make_step(workload, fused=True),
        "channels_last": make_step(workload, is_channels_last=True),
        "fused, channels_last": make_step(workload, is_channels_last=True, fused=True),
        "bf16 (autocast)": make_step(workload, is_bf16=True),
        "torch.compile": make_step(workload, is_compiled=True),
    }
    if DEVICE.type == "cpu":
        one, all_of_them = (lambda n=n: torch.set_num_threads(n) for n in (1, threads))
        steps[f"1 thread, not {threads}"] = with_setting(plain, one, all_of_them)
    else:
        low, high = (lambda p=p: torch.set_float32_matmul_precision(p) for p in ("high", "highest"))
        steps["TF32 matrix products"] = with_setting(plain, low, high)
        steps["bf16, channels_last, fused"] = make_step(workload, True, True, fused=True)
        steps["the same, compiled"] = make_step(workload, True, True, True, fused=True)
        steps["batch copied from pageable memory"] = make_step(workload, is_pinned=False)
        steps["batch copied from pinned memory"] = make_step(workload, is_pinned=True)
    return steps


def seconds_of(step: Step) -> float:
    """Of one step, in the mean of as many as fit into a turn."""
    start, count = time.perf_counter(), 0
    while count == 0 or time.perf_counter() - start < TURN_SECONDS:
        step()
        count += 1
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / count


def compare(workload: Workload, turns: int = TURNS) -> dict[str, tuple[float, float]]:
    """For each variant the median milliseconds of a step, and the median ratio to the plain one."""
    steps = variants(workload)
    for step in steps.values():
        for _ in range(3):
            step()
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(turns):
        for name, step in steps.items():
            found[name].append(seconds_of(step))
    plain = found[PLAIN]
    return {
        name: (1e3 * median(seconds), median(own / other for own, other in zip(seconds, plain, strict=True)))
        for name, seconds in found.items()
    }


def main(names: list[str]) -> dict[str, dict[str, tuple[float, float]]]:
    tables = {name: compare(WORKLOADS[name]) for name in names or ["fashion", "resnet"]}
    for name, table in tables.items():
        print(f"\n{name}, on {torch.cuda.get_device_name() if DEVICE.type == 'cuda' else 'the CPU'}")
        for variant, (milliseconds, ratio) in table.items():
            print(f"  {variant:28} {milliseconds:9.2f} ms {ratio:6.2f}")
    return tables


if __name__ == "__main__":
    main(sys.argv[1:])
