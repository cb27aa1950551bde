"""The floors and the template, each in a process of its own: `python benchmarks/contenders.py NAME WORKLOAD OUT`.

Writes the seconds of each epoch's train phase, and the mean loss of the last one, as JSON.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch.nn.utils import get_total_norm  # noqa: E402

from benchmarks.peers import PEERS  # noqa: E402
from benchmarks.workloads import WORKLOADS, Workload  # noqa: E402

Measured = tuple[list[float], float]


def bare(workload: Workload, folder: Path, **optimizer_args: Any) -> Measured:
    """The floor: normalised float tensors in memory, sliced; the loop in which nothing can be left out.

    Where the model is next to nothing it computes what the template reports besides, the norm of the gradients.
    """
    inputs, targets = workload.normalized()
    model = workload.make_model().train()
    optimizer = workload.make_optimizer(model, **optimizer_args)
    torch.manual_seed(1)
    seconds = []
    for _ in range(workload.epochs):
        start, total, sums = time.perf_counter(), 0.0, dict.fromkeys(("accuracy", "top_k_accuracy"), 0.0)
        order = torch.randperm(len(inputs))
        for first in range(0, len(order), workload.batch_size):
            chosen = order[first : first + workload.batch_size]
            batch, classes = inputs[chosen], targets[chosen]
            optimizer.zero_grad()
            outputs = model(batch)
            loss = workload.loss_fn(outputs, classes)
            loss.backward()
            if workload.reports_grad_norm:
                get_total_norm([parameter.grad for parameter in model.parameters()]).item()
            optimizer.step()
            total += loss.item() * len(classes)
            with torch.no_grad():
                for name, value in workload.metrics(outputs, classes).items():
                    sums[name] += value.item() * len(classes)
        seconds.append(time.perf_counter() - start)
    return seconds, total / len(inputs)


def template(workload: Workload, folder: Path, **optimizer_args: Any) -> Measured:
    """`python train.py`, with validation where there is some, TensorBoard, the progress bar, a checkpoint an epoch."""
    import train
    from base.base_trainer import BaseTrainer

    phase, seconds, losses = BaseTrainer._train_phase, [], []

    def timed(self, so_far):
        start = time.perf_counter()
        values, progress = phase(self, so_far)
        seconds.append(time.perf_counter() - start)
        losses.append(values["loss"])
        return values, progress

    BaseTrainer._train_phase = timed
    config = folder / "config.json"
    config.write_text(json.dumps(workload.config("benchmark", str(folder / "saved"), **optimizer_args)))
    train.main(["-c", str(config), "-d", "cpu"])
    return seconds, losses[-1]


CONTENDERS: dict[str, Callable[[Workload, Path], Measured]] = {
    "bare loop": bare,
    "bare loop, fused": lambda workload, folder: bare(workload, folder, fused=True),
    "template, not fused": lambda workload, folder: template(workload, folder, fused=False),
    "template": template,
}
for name, peer in PEERS.items():
    for title, is_batched in ((f"{name}, PIL", False), (f"{name}, batched", True)):
        CONTENDERS[title] = lambda workload, folder, peer=peer, batched=is_batched: peer(workload, folder, batched)


if __name__ == "__main__":
    name, workload, out = sys.argv[1:]
    with tempfile.TemporaryDirectory() as made:
        measured, loss = CONTENDERS[name](WORKLOADS[workload], Path(made))
    Path(out).write_text(json.dumps({"seconds": measured, "loss": loss}))
