"""An epoch of two processes beside a hand-written DDP loop, by turns in the same processes; and a step's memory.

python benchmarks/ddp.py [--processes 2]

Fashion-MNIST from data/, a LeNet, global batches of 128. Exit code 1 if a limit is missed.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402
from torch.nn.utils import get_total_norm  # noqa: E402
from torch.utils.data import DataLoader, DistributedSampler  # noqa: E402
from torch.utils.tensorboard import SummaryWriter  # noqa: E402

from benchmarks.workloads import WORKLOADS, Batched  # noqa: E402

EPOCHS = 12  # of each, after one to warm up
LIMITS = {"ddp: an epoch, / hand-written loop": 1.05, "memory: micro-batches of an eighth, / whole batch": 1 / 3}


def hand_written(workload, folder):
    """As the tutorials have it, on batches that come whole, with TensorBoard and what the template reports of a step,
    the norm of the gradients, too: an epoch at each call."""
    writer = SummaryWriter(str(folder / "hand_written")) if os.environ["RANK"] == "0" else None
    model = DistributedDataParallel(workload.make_model().train())
    optimizer = workload.make_optimizer(model, fused=True)
    dataset, ranks = Batched(workload), int(os.environ["WORLD_SIZE"])
    sampler = DistributedSampler(dataset)
    loader = DataLoader(dataset, workload.batch_size // ranks, sampler=sampler, collate_fn=lambda batch: batch)

    def epoch(number):
        sampler.set_epoch(number)
        sums = torch.zeros(5, dtype=torch.float64)
        for step, (inputs, targets) in enumerate(loader):
            optimizer.zero_grad()
            outputs = model(inputs)
            loss = workload.loss_fn(outputs, targets)
            loss.backward()
            norm = get_total_norm([parameter.grad for parameter in model.parameters()])
            optimizer.step()
            with torch.no_grad():
                metrics = workload.metrics(outputs, targets)
            values = [value.item() for value in (loss, norm, *metrics.values())]
            sums += torch.tensor([*values, 1.0], dtype=torch.float64) * len(targets)
            if step % 20 == 0 and writer is not None:
                for name, value in zip(("loss", "grad_norm", *metrics), values, strict=True):
                    writer.add_scalar(name, value, step)
        dist.all_reduce(sums)
        return (sums[0] / sums[-1]).item()

    return epoch


def template(workload, folder):
    """The train phase of `train.py`, with all that belongs to it: an epoch at each call."""
    from base.build import build_trainer
    from base.epoch_so_far import EpochSoFar
    from logger.open_writers import open_writers
    from utils.config.loading import load_config
    from utils.config.plan import make_plan
    from utils.distributed.devices import select_devices

    class NoCheckpoints:
        def end_step(self, state, step):
            pass

    config = folder / "config.json"
    settings = workload.config(str(folder))
    settings["model"]["channels_last"] = False  # as the other loop
    config.write_text(json.dumps(settings))
    plan = make_plan(load_config(config))
    trainer = build_trainer(plan, select_devices(0, "cpu", plan.parallel.build()), ["train"])
    trainer._checkpoints, trainer.writers = NoCheckpoints(), open_writers(folder, True, plan.config, 0, 0)

    def epoch(number):
        trainer.epoch = number
        trainer.so_far = EpochSoFar({})
        trainer._train_phase()
        return trainer.so_far.trained["loss"]

    return epoch


def by_turns():
    """In each process: epochs of both, by turns; their seconds."""
    from utils.distributed.processes import connected, is_first

    workload = WORKLOADS["fashion"]
    with connected(), tempfile.TemporaryDirectory() as folder:
        epochs = {make.__name__: make(workload, Path(folder)) for make in (template, hand_written)}
        seconds, losses = {name: [] for name in epochs}, {name: [] for name in epochs}
        for number in range(EPOCHS + 1):
            for name in list(epochs) if number % 2 else reversed(list(epochs)):
                start = time.perf_counter()
                losses[name].append(epochs[name](number))
                seconds[name].append(time.perf_counter() - start)
        if is_first():
            print(json.dumps({name: [seconds[name][1:], losses[name]] for name in epochs}))


def peak_memory(**args):
    """MB that three steps take at most beyond what was there before them, in a process of their own."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, __file__, "--memory", json.dumps(args)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def memory_of_steps(args):
    import resource

    from base.build import build_trainer
    from utils.config.plan import make_plan
    from utils.distributed.devices import Devices

    workload = WORKLOADS["resnet"]
    config = workload.config("saved/")
    config["trainer"] |= {"type": "FullTrainer", "args": args}
    config["data_loader"]["batch_size"] = 160
    trainer = build_trainer(make_plan(config), Devices(), ["train"])
    trainer.set_training(True)
    batch = trainer.run.batches["train"].trial()
    trainer.optimizer.zero_grad()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        trainer.result_of(trainer.train_step, batch)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--memory", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker or args.memory is not None:
        return by_turns() if args.worker else memory_of_steps(args.memory)
    command = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={args.processes}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(  # noqa: S603
        [sys.executable, *command, __file__, "--worker"], cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    ratios = [own / other for own, other in zip(found["template"][0], found["hand_written"][0], strict=True)]
    for name, (seconds, losses) in found.items():
        print(
            f"{name:14} {median(seconds):6.2f} s an epoch, loss {losses[0]:.4f} in the first, {losses[-1]:.4f} at last"
        )
    whole, eighth = peak_memory(), peak_memory(micro_batch_size=20)
    forgetful = peak_memory(activation_checkpointing="BasicBlock")
    print(f"memory of a step: {whole:.0f} MB; micro-batches {eighth:.0f}; activation checkpointing {forgetful:.0f}")
    values = dict(zip(LIMITS, (median(ratios), eighth / whole), strict=True))
    for name, limit in LIMITS.items():
        print(
            f"{'ok    ' if values[name] <= limit else 'MISSED'} {name:52} {values[name]:6.3f}   (at most {limit:.3g})"
        )
    return int(any(values[name] > limit for name, limit in LIMITS.items()))


if __name__ == "__main__":
    sys.exit(main())
