"""Which devices a run takes, and what is said when they are not there."""

import pytest
import torch

from utils.device import Devices, select_devices
from utils.errors import UserError


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("cuda", "-d cuda: no GPU 0; torch finds 0 on this machine."),
        ("0,1", "-d 0,1: no GPU 0, 1; torch finds 0 on this machine."),
        ("gpu", "-d gpu: not a device. Choices: cpu, cuda, mps, or GPU numbers such as 0,1."),
        ("0;import os", "-d 0;import os: not a device. Choices: cpu, cuda, mps, or GPU numbers such as 0,1."),
    ],
)
def test_a_device_asked_for_by_name_must_be_there(project, option, message):
    assert project.refused_config("-d", option) == f"error: {message}\n"


@pytest.mark.skipif(
    torch.cuda.is_available() or torch.backends.mps.is_available(), reason="needs a machine with a CPU alone"
)
def test_fewer_gpus_than_asked_for_is_one_line(caplog):
    assert select_devices(n_gpu=2).main.type == "cpu"
    assert caplog.messages == ["n_gpu: 2 asked for, 0 found: training on the CPU."]


def test_gpus_that_are_there_are_used(monkeypatch, caplog):
    """The count is all that is asked of CUDA here; the model on real GPUs is for a machine that has some."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert select_devices(n_gpu=1) == Devices(torch.device("cuda", 0), (0,))
    assert select_devices(n_gpu=4) == Devices(torch.device("cuda", 0), (0, 1))
    assert caplog.messages == ["n_gpu: 4 asked for, 2 found: training on 2 GPUs."]
    assert select_devices(n_gpu=1, option="1,0") == Devices(torch.device("cuda", 1), (1, 0))
    assert select_devices(n_gpu=2, option="cpu") == Devices(torch.device("cpu"))
    with pytest.raises(UserError, match="no GPU 2; torch finds 2"):
        select_devices(1, "1,2")


def test_batches_of_any_nesting_are_moved():
    devices = Devices(torch.device("meta"))
    moved = devices.move({"a": torch.ones(1), "b": [torch.ones(1), (torch.ones(1), "text")], "c": None})
    assert moved["a"].is_meta and moved["b"][0].is_meta and moved["b"][1][0].is_meta
    assert moved["b"][1][1] == "text" and moved["c"] is None
