"""Makes some steps on each of several processes and, by hand, the same ones on the whole batch; says how far the
weights are apart, as JSON on the last line.

torchrun --nproc_per_node=2 tests/steps_on_ranks.py CONFIG
"""

import json
import sys
from copy import deepcopy
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

from base.build import build_trainer
from base.finite import FiniteWatch
from data_loader.datasets import Digits
from utils.config.loading import load_config
from utils.config.plan import make_plan
from utils.distributed import exact_gradients
from utils.distributed.devices import select_devices
from utils.distributed.processes import connected, gather, is_first, rank, sums, world_size
from utils.distributed.shards import whole
from utils.errors import UserError
from utils.modules.gradients import clip_gradients

STEPS, DECAY, MAX_NORM = 3, 0.9, 0.5
DIGITS = torch.utils.data.default_collate([Digits("train")[i] for i in range(64)])


WEIGHTED = {"type": "nll_loss", "args": {"weight": [float(1 + 3 * number) for number in range(10)]}}
PLAIN_ADAM = {"type": "Adam", "args": {"lr": 0.001}}
WITH_MOMENTUM = {"type": "SGD", "args": {"lr": 0.05, "momentum": 0.9}}


def steps(
    config,
    samples=64,
    count_exchanges=False,
    fail_on=None,
    parallel="ddp",
    spoil=False,
    loss="nll_loss",
    optimizer=PLAIN_ADAM,
    **args,
):
    """Weights after some steps, those by hand, and the number of gradient exchanges."""
    config = deepcopy(config)
    config |= {"parallel": {"type": "fsdp", "args": {"modules": "Conv2d"} | parallel} if parallel != "ddp" else None}
    config |= {"loss": loss, "optimizer": optimizer}
    config["trainer"] |= {"type": "FullTrainer" if args.keys() - {"max_grad_norm"} else "Trainer", "args": args}
    plan = make_plan(config)
    built = build_trainer(plan, select_devices(0, "cpu", plan.parallel.build()), ["train"])
    by_hand = plan.model.build()
    by_hand.load_state_dict({name: whole(tensor) for name, tensor in built.model.state_dict().items()})
    built.set_training(True)
    inputs, targets = (tensor[:samples] for tensor in DIGITS)
    exchanges = []
    if count_exchanges:
        exact_gradients.allreduce_hook = lambda *given: exchanges.append(1) or allreduce_hook(*given)
    own = inputs[rank() :: world_size()], targets[rank() :: world_size()]
    built.run.batches["train"].gradient_weight = world_size() * len(own[0]) / samples
    if fail_on is not None:
        _fail_once(built, fail_on)
    if spoil:  # a batch of one process is infinite: none may make this step
        built.result_of(built.train_step, (own[0] * (float("inf") if rank() else 1), own[1]))
    for _ in range(STEPS):
        built.result_of(built.train_step, own)
    optimizer = getattr(torch.optim, optimizer["type"])(by_hand.parameters(), **optimizer["args"])
    for _ in range(STEPS):
        optimizer.zero_grad()
        built.loss_fn.loss_fn(by_hand(inputs), targets).backward()
        clip_gradients(by_hand.parameters(), args.get("max_grad_norm"))
        optimizer.step()
    found, expected = (
        torch.cat([whole(p).detach().reshape(-1) for p in m.parameters()]) for m in (built.model, by_hand)
    )
    others = gather(found)
    return {
        "apart": (found - expected).abs().max().item(),
        "same_on_all_ranks": all(torch.equal(found, other) for other in others),
        "exchanges": len(exchanges),
        "sizes": gather(built.micro_batches.size if hasattr(built, "micro_batches") else None),
    }


def _fail_once(built, failing):
    """One rank has no memory for parts of more than 8 samples."""
    forward = built.model.forward

    def heavy(images):
        outputs = forward(images)
        if rank() == failing and built.model.training and len(images) > 8:
            torch.empty(1 << 50)
        return outputs

    built.model.forward = heavy


def refusals(config):
    """What is said of what does not go with a sharded model."""
    cases = [
        {"trainer": {"ema_decay": DECAY}},
        {"trainer": {"micro_batch_size": "auto"}},
        {"parallel": {"modules": ["Block"]}},
        {"channels_last": True},
    ]
    said = []
    for case in cases:
        changed = deepcopy(config)
        changed["trainer"] |= {"type": "FullTrainer"}
        changed["trainer"]["args"] = case.get("trainer", {})
        changed["model"]["channels_last"] = case.get("channels_last")
        changed["parallel"] = {"type": "fsdp", "args": case.get("parallel", {})}
        plan = make_plan(changed)
        try:
            build_trainer(plan, select_devices(0, "cpu", plan.parallel.build()), ["train"])
        except UserError as error:
            said.append(str(error))
    return said


def main(path):
    config = load_config(path)
    with connected():
        report = {
            "plain": steps(config),
            "unequal parts": steps(config, samples=63),
            "micro-batches": steps(config, count_exchanges=True, micro_batch_size=5),
            "no micro-batches": steps(config, count_exchanges=True),
            "unequal micro-batches": steps(config, samples=63, micro_batch_size=5),
            "clipped": steps(config, max_grad_norm=MAX_NORM),
            "bf16": steps(config, amp="bf16"),
            "fp16": steps(config, amp="fp16"),
            "averaged": steps(config, ema_decay=DECAY),
            "checkpointed": steps(config, activation_checkpointing="conv*"),
            "compiled": steps(config, compile=True),
            "short of memory": steps(config, fail_on=1, micro_batch_size="auto"),
            "class weights": steps(config, samples=63, loss=WEIGHTED),
            "class weights, micro-batches": steps(config, samples=63, loss=WEIGHTED, micro_batch_size=5),
            "momentum": steps(config, samples=63, optimizer=WITH_MOMENTUM),
            "sharded": steps(config, parallel={}),
            "sharded, class weights": steps(config, parallel={}, samples=63, loss=WEIGHTED, micro_batch_size=9),
            "sharded, momentum": steps(config, parallel={}, optimizer=WITH_MOMENTUM),
            "sharded, Adagrad": steps(config, parallel={}, optimizer={"type": "Adagrad", "args": {"lr": 0.01}}),
            "sharded, unequal parts": steps(config, parallel={}, samples=63),
            "sharded, unequal micro-batches": steps(config, parallel={}, samples=33, micro_batch_size=4),
            "sharded, micro-batches of one": steps(config, parallel={}, samples=3, micro_batch_size=1),
            "sharded, clipped": steps(config, parallel={}, max_grad_norm=MAX_NORM),
            "sharded, checkpointed": steps(config, parallel={}, activation_checkpointing="Conv2d"),
            "sharded, compiled": steps(config, parallel={}, compile=True),
            "sharded, bf16": steps(config, parallel={"mixed_precision": "bf16"}),
            "sharded, fp16": steps(config, parallel={}, amp="fp16", spoil=True),
            "sharded, kept gathered": steps(config, parallel={"reshard_after_forward": False}),
            "refused": refusals(config),
        }
        assert sums([1]) == [world_size()]
        watch = FiniteWatch((), stops=True)
        assert watch.check(rank()) == list(range(world_size()))  # also where there is nothing to look at
    if is_first():
        print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1])
