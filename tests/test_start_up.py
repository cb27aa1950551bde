"""What a start imports, and that nothing is imported for what is off."""

import sys

import pytest
from conftest import run_python

LISTED = """
import sys, atexit
atexit.register(lambda: print(*sorted(sys.modules)))
sys.argv = sys.argv[1:]
import train
sys.exit(train.exit_code_of(train.main))
"""


@pytest.fixture
def modules(project):
    """Train one epoch in a process; the modules that it has imported."""

    def run(*arguments, path="", **trainer):
        config = project.write_config(trainer={"epochs": 1} | trainer)
        done = run_python("-c", LISTED, "train.py", "-c", config, *arguments, env={"PATH": "", "PYTHONPATH": str(path)})
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1].split()

    return run


def test_a_run_on_the_embedded_data_needs_little(modules):
    found = modules(tensorboard=False)
    assert "torch" in found
    assert not {"torchvision", "tensorboard", "yaml", "matplotlib", "PIL", "jsonschema"} & set(found)


def test_tensorboard_does_not_bring_tensorflow(modules, tmp_path):
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("raise RuntimeError('ten seconds')")
    found = modules(tensorboard=True, path=tmp_path)
    assert "tensorboard" in found and "tensorflow" not in found


def test_scoring_needs_no_tensorboard(project):
    run = project.train(trainer={"tensorboard": True, "epochs": 1})
    script = LISTED.replace("train", "test")
    done = run_python("-c", script, "test.py", "-r", run)
    assert done.returncode == 0, done.stderr
    assert "tensorboard" not in done.stdout.splitlines()[-1].split()


MEMORY = """
import sys
from pathlib import Path
import train, trainer.trainer

class Noting(trainer.trainer.Trainer):
    def on_epoch_end(self, values):
        super().on_epoch_end(values)
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
        print("resident", self.epoch, resident)

Noting.__module__ = "trainer.trainer"
trainer.trainer.Noting = Noting
sys.exit(train.exit_code_of(lambda: train.main(sys.argv[1:])))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_from_epoch_to_epoch(project):
    config = project.write_config(trainer={"type": "Noting", "epochs": 20, "tensorboard": True})
    done = run_python("-c", MEMORY, "-c", config)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("resident ")]
    resident = {int(epoch): float(megabytes) for _, epoch, megabytes in lines}
    assert len(resident) == 20
    assert resident[20] - resident[2] < 5, resident
