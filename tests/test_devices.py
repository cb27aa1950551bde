"""Which devices a run takes, and what is said when they are not there."""

import pytest
import torch

import utils.distributed.devices
from utils.distributed.cpu import available_cores
from utils.distributed.devices import Devices, select_devices
from utils.errors import UserError


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("cuda", "-d cuda: no GPU 0; torch finds 0 on this machine{why}. Choices: cpu."),
        ("0,1", "-d 0,1: no GPU 0, 1; torch finds 0 on this machine{why}. Choices: cpu."),
        ("cuda:0", "-d cuda:0: no GPU 0; torch finds 0 on this machine{why}. Choices: cpu."),
        ("cuda:0,1", "-d cuda:0,1: no GPU 0, 1; torch finds 0 on this machine{why}. Choices: cpu."),
        ("cuda:", "-d cuda:: not a device. Choices: cpu, cuda, mps, or GPU numbers such as 0,1."),
        ("gpu", "-d gpu: not a device. Choices: cpu, cuda, mps, or GPU numbers such as 0,1."),
        ("0;import os", "-d 0;import os: not a device. Choices: cpu, cuda, mps, or GPU numbers such as 0,1."),
    ],
)
def test_a_device_asked_for_by_name_must_be_there(project, option, message):
    why = "" if torch.version.cuda or torch.version.hip else ", since it was built without CUDA"
    assert project.refused_config("-d", option) == f"error: {message.format(why=why)}\n"


@pytest.mark.skipif(
    torch.cuda.is_available() or torch.backends.mps.is_available(), reason="needs a machine with a CPU alone"
)
def test_a_class_that_fsdp_cannot_find_is_told_on_one_process_too(project):
    parallel = {"type": "fsdp", "args": {"modules": ["Lineer"]}}
    message = project.refused_config(parallel=parallel)
    assert "parallel.args.modules: the model has no module of class Lineer. Choices: Conv2d, " in message
    project.train(parallel=parallel | {"args": {"modules": ["Linear"]}}, trainer={"epochs": 1})


def test_fewer_gpus_than_asked_for_is_one_line(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert select_devices(n_gpu=2).main.type == "cpu"
    assert caplog.messages == ["n_gpu: 2 asked for, 0 found: training on the CPU."]


def test_gpus_that_are_there_are_used(monkeypatch, caplog):
    """The count is all that is asked of CUDA here; the model on real GPUs is for a machine that has some."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert select_devices(n_gpu=1) == Devices(torch.device("cuda", 0), (0,))
    assert select_devices(n_gpu=4) == Devices(torch.device("cuda", 0), (0, 1))
    assert caplog.messages == ["n_gpu: 4 asked for, 2 found: training on 2 GPUs."]
    assert select_devices(n_gpu=1, option="1,0") == Devices(torch.device("cuda", 1), (1, 0))
    assert select_devices(n_gpu=1, option="cuda:1") == Devices(torch.device("cuda", 1), (1,))
    assert select_devices(n_gpu=1, option="cuda:0,1") == Devices(torch.device("cuda", 0), (0, 1))
    assert select_devices(n_gpu=2, option="cpu") == Devices(torch.device("cpu"))
    with pytest.raises(UserError, match="no GPU 2; torch finds 2 on this machine.*Choices: cpu, 0, 1."):
        select_devices(1, "1,2")


@pytest.mark.parametrize(
    ("gpus", "n_gpu", "option", "found"),
    [
        (4, 1, None, "cuda:1"),
        (4, 1, "cuda", "cuda:1"),
        (4, 1, "3,2", "cuda:2"),
        (4, 0, None, "cpu"),
        (4, 1, "cpu", "cpu"),
        (0, 1, None, "cpu"),
        (1, 1, None, "2 processes on this machine, but 1 GPU. Choices: torchrun --nproc_per_node=1, or -d cpu."),
        (4, 1, "3", "-d 3: 2 processes on this machine, but 1 GPU."),
        (4, 1, "mps", "-d mps: is for one process; this run has several."),
    ],
)
def test_each_of_several_processes_has_a_gpu(monkeypatch, gpus, n_gpu, option, found):
    """The second of two. Processes that are there are in tests/test_distributed.py."""
    ranks = {"RANK": 1, "LOCAL_RANK": 1, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    for name, value in ranks.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(utils.distributed.devices, "set_up", lambda *_: None)
    try:
        assert str(select_devices(n_gpu, option).main) == found
    except UserError as error:
        assert str(error).startswith(found)


def test_cores_are_shared_among_the_processes_of_a_machine(monkeypatch):
    alone = available_cores()
    for name, value in {"RANK": 0, "WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    assert available_cores() == max(1, alone // 2)


def test_batches_of_any_nesting_are_moved():
    devices = Devices(torch.device("meta"))
    moved = devices.move({"a": torch.ones(1), "b": [torch.ones(1), (torch.ones(1), "text")], "c": None})
    assert moved["a"].is_meta and moved["b"][0].is_meta and moved["b"][1][0].is_meta
    assert moved["b"][1][1] == "text" and moved["c"] is None
