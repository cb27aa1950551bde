"""The floors and the template: `python benchmarks/contenders.py NAME WORKLOAD PAGE` trains until it is stopped.

PAGE is the file in which a `Meter` tells how far it is. Each contender has a process of its own.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch.nn.utils import get_total_norm  # noqa: E402

from benchmarks.measure import AS_WRITTEN, FLOOR, Meter  # noqa: E402
from benchmarks.peers import PEERS  # noqa: E402
from benchmarks.workloads import WORKLOADS, Workload  # noqa: E402
from utils.distributed.cpu import keep_freed_memory  # noqa: E402

Train = Callable[[Workload, Path, Meter], None]


def bare(
    workload: Workload,
    folder: Path,
    meter: Meter,
    keeps_memory: bool = True,
    waits: bool = True,
    **optimizer_args: Any,
) -> None:
    """The floor: normalised float tensors in memory, sliced; the loop in which nothing can be left out.

    Where the model is next to nothing it computes what the template reports besides, the norm of the gradients.
    `keeps_memory`: as the template does. Else how much of it goes back to the system each step is a matter of how the
    heap happens to lie: the same program has 0 to 2,000 page faults a step, and takes 1 to 1.7 times as long.
    `waits`: for the loss and the metrics of each step, as people write it; else they are summed up where they are.
    """
    inputs, targets = (tensor.to(workload.device) for tensor in workload.normalized())
    if keeps_memory:
        keep_freed_memory()
    model = workload.make_model().to(workload.device).train()
    optimizer = workload.make_optimizer(model, **optimizer_args)
    torch.manual_seed(1)
    for _ in range(workload.epochs):
        meter.start_epoch()
        sums: dict[str, Any] = dict.fromkeys(("loss", "accuracy", "top_k_accuracy"), 0.0)
        order = torch.randperm(len(inputs)).to(workload.device)
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
            meter.step()
            with torch.no_grad():
                for name, value in {"loss": loss, **workload.metrics(outputs, classes)}.items():
                    sums[name] += (value.item() if waits else value.detach()) * len(classes)
        meter.end_epoch()
        meter.loss(float(sums["loss"]) / len(inputs))


def template(workload: Workload, folder: Path, meter: Meter, *settings: str) -> None:
    """`python train.py`, with validation where there is some, TensorBoard, the progress bar, a checkpoint an epoch.

    `settings`: as `--set` takes them.
    """
    import train
    from base.base_trainer import BaseTrainer
    from logger.progress import Progress

    phase, update = BaseTrainer._train_phase, Progress.update

    def metered_phase(self):
        meter.start_epoch()
        progress = phase(self)
        meter.end_epoch()
        meter.loss(self.so_far.trained["loss"])
        return progress

    def metered_update(self, items):
        if meter.is_inside():  # or else it is a batch of the validation
            meter.step()
        update(self, items)

    BaseTrainer._train_phase, Progress.update = metered_phase, metered_update
    config = folder / "config.json"
    config.write_text(json.dumps(workload.config(str(folder / "saved"))))
    train.main(["-c", str(config), "-d", workload.device, *(["--set", *settings] if settings else [])])


CONTENDERS: dict[str, Train] = {
    FLOOR: bare,
    AS_WRITTEN: lambda *args: bare(*args, keeps_memory=False),
    "bare loop, fused": lambda *args: bare(*args, fused=True),
    "bare loop, no waiting": lambda *args: bare(*args, waits=False, fused=True),
}
SETTINGS = {
    "template": [],
    "template, as the bare loop": ["model.channels_last=false", "optimizer.args.fused=false"],
    "template, no workers": ["data_loader.num_workers=0"],
    "template, 2 workers": ["data_loader.num_workers=2"],
    "template, not pinned": ["data_loader.pin_memory=false"],
    "template, channels_last": ["model.channels_last=true"],
    "template, bf16": ["trainer.type=FullTrainer", "trainer.args.amp=bf16"],
    "template, bf16, channels_last": ["trainer.type=FullTrainer", "trainer.args.amp=bf16", "model.channels_last=true"],
    "template, compile": ["trainer.type=FullTrainer", "trainer.args.compile=true"],
}
for name, settings in SETTINGS.items():
    CONTENDERS[name] = lambda *args, settings=settings: template(*args, *settings)
for name, peer in PEERS.items():
    for title, is_batched in ((f"{name}, PIL", False), (f"{name}, batched", True)):
        CONTENDERS[title] = lambda *args, peer=peer, batched=is_batched: peer(*args, batched)


if __name__ == "__main__":
    name, workload, page = sys.argv[1:]
    with tempfile.TemporaryDirectory(dir=Path(page).parent) as made:  # goes with that folder when this is killed
        CONTENDERS[name](WORKLOADS[workload], Path(made), Meter(Path(page)))
