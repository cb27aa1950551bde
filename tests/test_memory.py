"""Memory that does not suffice is one message, with what to try."""

import re

import pytest
import torch
from conftest import load

import model.model
import train as train_script
import trainer.trainer


class TooLarge(model.model.LeNet):
    """Asks for more memory than there is in the world."""

    in_training = True

    def __init__(self):
        super().__init__(10, channels=(4, 8), hidden=16)

    def forward(self, images):
        if self.training == self.in_training:
            torch.empty(1 << 50)
        return super().forward(images)


@pytest.mark.parametrize("in_training", [True, False])
def test_memory_that_does_not_suffice_is_one_message_before_the_run(project, write_into, monkeypatch, in_training):
    write_into(model.model, TooLarge)
    monkeypatch.setattr(TooLarge, "in_training", in_training)
    code, _, err = project.command(train_script, "-c", project.write_config(model="TooLarge"))
    assert code == 1 and "Traceback" not in err and project.run_dirs() == []
    assert (
        err.startswith("error: step 1: out of memory with a batch of 64: ") and "Try a smaller batch (--bs 32)" in err
    )


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, MemoryError])
def test_memory_that_runs_out_later_leaves_the_checkpoint_before(project, write_into, kind):
    class Filling(trainer.trainer.Trainer):
        def train_step(self, batch):
            if self.step == 25:
                raise kind("CUDA out of memory. Tried to allocate 20.00 GiB.")
            return super().train_step(batch)

    write_into(trainer.trainer, Filling)
    code, _, err = project.command(train_script, "-c", project.write_config(trainer={"type": "Filling"}))
    assert code == 1 and "error: step 26: out of memory with a batch of 64: CUDA out of memory." in err
    assert load(project.run_dirs()[0] / "last.pth")["step"] == 20


@pytest.mark.parametrize("step", [0, 3])
def test_another_error_is_a_few_lines_and_its_traceback_is_in_the_log(project, write_into, step):
    class Buggy(trainer.trainer.Trainer):
        def train_step(self, batch):
            if self.step == step:
                raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
            return super().train_step(batch)

    write_into(trainer.trainer, Buggy)
    if step:
        code, _, err = project.command(train_script, "-c", project.write_config(trainer={"type": "Buggy"}))
        assert code == 1 and "Traceback" not in err and len(err.splitlines()) <= 6
        assert "error: RuntimeError: mat1 and mat2" in err and re.search(r"test_memory.py:\d+: raise RuntimeErr", err)
        assert "Traceback (most recent" in (project.run_dirs()[-1] / "train.log").read_text(encoding="utf-8")
    else:
        message = project.refused_config(trainer={"type": "Buggy"})
        assert message.startswith("error: The first train batch fails. RuntimeError: mat1 and mat2 shapes cannot be")
        assert re.search(r"test_memory.py:\d+: raise RuntimeError\(\"mat1", message)
