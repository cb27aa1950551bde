"""What is chosen where the config leaves it to the machine: fused optimizers, workers, threads."""

import logging
import os
import sys

import pytest
import torch
from conftest import metrics_of, run_python
from torch import nn
from torch.utils.data import Dataset, IterableDataset, Subset

import model.model
import trainer.trainer
import utils.distributed.cpu
from data_loader.datasets import Digits
from utils.batches.advice import advise
from utils.batches.defaults import fitted
from utils.config.options import LoaderOptions

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("optimizer", "is_fused"),
    [
        ("Adam", True),
        ({"type": "AdamW", "args": {"weight_decay": 0.1}, "groups": [{"params": "*.bias", "weight_decay": 0}]}, True),
        ({"type": "SGD", "args": {"lr": 0.1, "momentum": 0.9}}, True),
        ("Adagrad", True),
        ({"type": "Adam", "args": {"fused": False}}, False),
        ({"type": "Adam", "args": {"foreach": True}}, None),
        ({"type": "Adam", "args": {"capturable": False}}, None),
        ("RMSprop", None),
    ],
)
def test_an_optimizer_is_fused_unless_the_config_says_otherwise(project, optimizer, is_fused):
    trainer = project.trainer(optimizer=optimizer)
    assert {group.get("fused") for group in trainer.optimizer.param_groups} == {is_fused}


def test_a_fused_optimizer_trains_to_the_same(project):
    for optimizer in ({"type": "Adam", "args": {"lr": 0.003}}, {"type": "SGD", "args": {"lr": 0.1, "momentum": 0.9}}):
        fused, plain = (
            metrics_of(project.train(optimizer=optimizer | {"args": optimizer["args"] | args}, trainer={"epochs": 1}))
            for args in ({}, {"fused": False})
        )
        for name in ("loss", "val_loss", "grad_norm"):
            assert fused[0][name] == pytest.approx(plain[0][name], rel=1e-4)


class Words(nn.Module):
    """Looks up an embedding with sparse gradients for each level of grey."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.embedding = nn.Embedding(256, num_classes, sparse=True)

    def forward(self, inputs):
        return self.embedding(inputs.flatten(1).abs().long()).mean(dim=1).log_softmax(dim=1)


class WithoutClipping(trainer.trainer.Trainer):
    """The norm of a sparse gradient is not to be had."""

    def train_step(self, batch):
        inputs, targets = batch
        self.optimizer.zero_grad()
        loss = self.loss_fn(self.forward(inputs), targets)
        loss.backward()
        self.optimizer.step()
        return trainer.trainer.StepResult({"loss": loss}, len(targets))


def test_sparse_gradients_are_not_for_fused_kernels(project, write_into):
    write_into(model.model, Words)
    write_into(trainer.trainer, WithoutClipping)
    project.train(
        model={"type": "Words", "args": {"num_classes": 10}},
        optimizer={"type": "SGD", "args": {"lr": 0.1}},
        trainer={"type": "WithoutClipping", "epochs": 1},
    )


def test_nor_are_complex_weights(project, write_into):
    class Waves(nn.Module):
        def __init__(self, num_classes: int):
            super().__init__()
            self.layer = nn.Linear(64, num_classes, dtype=torch.complex64)

        def forward(self, inputs):
            return self.layer(inputs.flatten(1).to(torch.complex64)).abs().log_softmax(dim=1)

    write_into(model.model, Waves)
    trainer = project.trainer(model={"type": "Waves", "args": {"num_classes": 10}})
    assert not trainer.optimizer.param_groups[0]["fused"]


def test_a_run_goes_on_as_its_checkpoint_began(project):
    """One from before there were fused kernels stays without."""
    before = project.trainer(optimizer={"type": "Adam", "args": {"fused": False}})
    state = before.state_dict()
    for group in state["optimizer"]["param_groups"]:
        group["fused"] = None
    now = project.trainer(optimizer="Adam")
    now.load_state_dict(state)
    assert now.optimizer.param_groups[0]["fused"] is None


class Stream(IterableDataset):
    def __iter__(self):
        yield from range(4)


class OneByOne(Dataset):
    """Has no __getitems__."""

    def __len__(self):
        return 4


DIGITS, STREAM, SAMPLES = Digits("train"), Stream(), OneByOne()


@pytest.mark.parametrize(
    ("options", "dataset", "device", "cores", "workers", "is_pinned", "persist"),
    [
        ({}, DIGITS, CPU, 16, 0, False, False),
        ({}, DIGITS, GPU, 16, 0, True, False),
        ({}, SAMPLES, CPU, 16, 0, False, False),
        ({}, SAMPLES, GPU, 16, 4, True, True),
        ({}, Subset(SAMPLES, [0]), GPU, 16, 4, True, True),
        ({}, SAMPLES, GPU, 3, 2, True, True),
        ({}, SAMPLES, GPU, 1, 0, True, False),
        ({}, STREAM, GPU, 16, 0, True, False),
        ({"num_workers": 6}, DIGITS, CPU, 2, 6, False, True),
        ({"num_workers": 6}, STREAM, GPU, 2, 6, True, False),
        ({"num_workers": 6, "persistent_workers": False, "pin_memory": False}, DIGITS, GPU, 16, 6, False, False),
        ({"persistent_workers": True, "prefetch_factor": 4}, DIGITS, CPU, 16, 0, False, False),
    ],
)
def test_workers_fit_the_machine(monkeypatch, options, dataset, device, cores, workers, is_pinned, persist):
    monkeypatch.setattr("utils.batches.defaults.available_cores", lambda: cores)
    found = fitted(LoaderOptions(batch_size=4, **options), dataset, device)
    assert (found.num_workers, found.pin_memory, found.persistent_workers) == (workers, is_pinned, persist)
    assert found.prefetch_factor is None


def test_a_config_for_a_gpu_runs_on_the_cpu(project):
    loader = {"batch_size": 64, "persistent_workers": True, "prefetch_factor": 4, "timeout": 30}
    project.train("--set", "data_loader.num_workers=null", data_loader=loader, trainer={"epochs": 1})


@pytest.mark.parametrize(
    ("text", "cores"), [("max 100000", 8), ("150000 100000", 2), ("50000 100000", 1), ("1600000 100000", 8), ("?", 8)]
)
def test_a_containers_limit_counts(monkeypatch, tmp_path, text, cores):
    (tmp_path / "cpu.max").write_text(text)
    monkeypatch.setattr(utils.distributed.cpu, "_V2", tmp_path / "cpu.max")
    monkeypatch.setattr(utils.distributed.cpu.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert utils.distributed.cpu.available_cores() == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("250000", 3)])
def test_an_old_containers_limit_counts(monkeypatch, tmp_path, quota, cores):
    (tmp_path / "quota").write_text(f"{quota}\n")
    (tmp_path / "period").write_text("100000\n")
    monkeypatch.setattr(utils.distributed.cpu, "_V2", tmp_path / "none")
    monkeypatch.setattr(utils.distributed.cpu, "_V1", (tmp_path / "quota", tmp_path / "period"))
    monkeypatch.setattr(utils.distributed.cpu.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert utils.distributed.cpu.available_cores() == cores


THREADS = """
import sys, os, torch, pathlib
import utils.distributed.cpu, utils.distributed.devices
utils.distributed.cpu._V2 = pathlib.Path(sys.argv[1])
torch.set_num_threads(4)
utils.distributed.devices.select_devices(0)
print(torch.get_num_threads())
"""


@pytest.mark.parametrize(("environment", "threads"), [({}, "1"), ({"OMP_NUM_THREADS": "3"}, "4")])
def test_torch_uses_no_more_threads_than_there_are_cores(tmp_path, monkeypatch, environment, threads):
    (tmp_path / "cpu.max").write_text("100000 100000")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    done = run_python("-c", THREADS, tmp_path / "cpu.max", env=dict(utils.distributed.cpu.os.environ) | environment)
    assert done.stdout.strip() == threads, done.stderr


@pytest.mark.parametrize(("waited", "seconds", "is_told"), [(3.0, 10.0, True), (1.9, 10.0, False), (0.5, 1.0, False)])
def test_long_waits_are_told(caplog, waited, seconds, is_told):
    with caplog.at_level(logging.WARNING):
        assert advise(OneByOne(), 0, waited, seconds) is is_told
    assert [record.getMessage() for record in caplog.records] == is_told * [
        "data: 30 % of the training's time was waiting. OneByOne gives one sample at a time: a method "
        "__getitems__(indices) that returns a whole batch costs a fraction (UInt8Images in data_loader/datasets.py "
        "has one). Do what is costly and always the same in it once, before the training. On a machine with cores to "
        "spare, try --set data_loader.num_workers=2."
    ]


def test_a_stream_is_not_told_to_give_what_it_cannot(caplog):
    assert advise(Stream(), 2, 3.0, 10.0)
    assert "__getitems__" not in caplog.text and "num_workers=4" in caplog.text
    assert "Workers help Stream only if it has shard(num_shards, index) or asks get_worker_info(): else" in caplog.text


def test_a_run_that_waits_says_so_once(project, write_into, monkeypatch):
    import data_loader.datasets

    class Slow(Digits):
        def __getitems__(self, indices):
            import time

            time.sleep(0.12 if self.split == "train" else 0)
            return super().__getitems__(indices)

    write_into(data_loader.datasets, Slow)
    run = project.train(dataset="Slow", data_loader={"batch_size": 128}, trainer={"epochs": 2})
    log = (run / "train.log").read_text()
    assert log.count("of the training's time was waiting. Do what is costly") == 1


@pytest.mark.parametrize(("written", "precision"), [({}, "highest"), ({"matmul_precision": "high"}, "high")])
def test_the_precision_of_matrix_products_is_the_configs(project, written, precision):
    torch.set_float32_matmul_precision("medium")
    try:
        project.trainer(trainer=written)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision("highest")


FAULTS = """
import resource, sys, torch
import utils.distributed.devices
if sys.argv[1] == "run":
    utils.distributed.devices.Devices().prepare("highest")
def faults_of_a_round():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        parts = [torch.ones(2**20) for _ in range(8)]  # 4 MB each
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
for _ in range(5):
    faults_of_a_round()
print(min(faults_of_a_round() for _ in range(5)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="about glibc")
def test_memory_that_a_step_frees_is_there_for_the_next():
    """Counted in pages that the system had to give anew; 4 MB are 1,024 of them."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}

    def pages(what, **more):
        done = run_python("-c", FAULTS, what, env=environment | {"OMP_NUM_THREADS": "1"} | more)
        return int(done.stdout)

    assert pages("run") < 100
    assert pages("run", MALLOC_TRIM_THRESHOLD_="131072", MALLOC_MMAP_THRESHOLD_="131072") > 10_000
