"""Nothing in the loop waits for the device but what the user asked to see, every `log_steps`."""

import warnings
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import trainer.trainer
from logger.means import RunningMeans, StepResult
from utils.distributed.devices import Devices

# In Python: what hands a tensor's values to the host. In the kernels: what must know values to go on.
READS = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__", "__array__", "__contains__")
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "bincount", "_unique2", "unique_dim", "repeat_interleave")
STEPS, LOG_STEPS = 20, 5  # of 64 samples, in an epoch of the digits


class Reads(TorchFunctionMode):
    """Notes every call by which the host reads what may still be under way on a device."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", "") in READS:
            self.found.append(function.__name__)
        return function(*args, **(kwargs or {}))


class Waits(TorchDispatchMode):
    """Notes every operation that would wait for a GPU, whoever asks for it."""

    def __init__(self, found):
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in WAITS:
            self.found.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


@pytest.fixture
def syncs_of_each_step(project, write_into):
    """Train an epoch; the reads from the start of each step to that of the next."""

    def count(**options):
        reads, starts = Reads(), []

        class Noting(trainer.trainer.Trainer):
            def train_step(self, batch):
                if hasattr(self, "_checkpoints"):  # not in the trial step before the run
                    starts.append(len(reads.found))
                return super().train_step(batch)

        write_into(trainer.trainer, Noting)
        with reads, Waits(reads.found):
            in_order = {"batch_size": 64, "shuffle": False}  # a shuffle is drawn, and read, on the host
            project.train(trainer={"type": "Noting", "epochs": 1} | options, data_loader=in_order)
        return [after - before for before, after in zip(starts, starts[1:], strict=False)]

    return count


@pytest.mark.parametrize("clip", [None, 1.0])
def test_only_the_steps_that_are_logged_read_anything(syncs_of_each_step, clip):
    found = syncs_of_each_step(log_steps=LOG_STEPS, args={"max_grad_norm": clip})
    assert len(found) == STEPS - 1
    for number, syncs in enumerate(found, 1):
        assert 0 < syncs <= 2 if number % LOG_STEPS == 0 else syncs == 0, f"step {number}"


READERS = [
    Tensor.item, Tensor.tolist, Tensor.cpu, Tensor.nonzero, float, bool, lambda loss: loss.long()[None].bincount(),
    Tensor.numpy, lambda loss: loss[loss > 0],
]  # fmt: skip


@pytest.mark.parametrize("read", READERS)
def test_the_count_sees_a_loop_that_reads(syncs_of_each_step, monkeypatch, read):
    update = RunningMeans.update

    def reading(self, result: StepResult):
        read(result.means["loss"].detach())
        return update(self, result)

    monkeypatch.setattr(RunningMeans, "update", reading)
    found = syncs_of_each_step(log_steps=1000)
    assert found and all(syncs > 0 for syncs in found)


@pytest.mark.parametrize("device", ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
def test_a_step_waits_for_no_device(project, device):
    trainer = project.trainer(devices=Devices(torch.device(device)))
    batch = trainer.run.devices.move(trainer.run.batches["train"].trial())
    means = RunningMeans()
    trainer.set_training(True)
    means.update(trainer.train_step(batch))  # the first one makes what stays
    with nothing_waits() if device == "cuda" else Waits([]) as found:
        for _ in range(3):
            means.update(trainer.train_step(batch))
    assert device == "cuda" or found.found == []
    assert means.compute()["loss"] > 0


@contextmanager
def nothing_waits():
    """CUDA's own detector: an operation that waits for the GPU raises."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
