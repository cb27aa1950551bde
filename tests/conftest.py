"""Shared by all tests: the real commands, run in this process or in one of their own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from checking import build, look, look_with  # noqa: E402, F401 - fixtures

import test as test_script  # noqa: E402
import train as train_script  # noqa: E402
import trainer.trainer  # noqa: E402
from base.base_trainer import StepResult  # noqa: E402
from base.build import build_trainer  # noqa: E402
from trainer.full_trainer import FullTrainer  # noqa: E402
from utils.config.loading import load_config  # noqa: E402
from utils.config.plan import make_plan  # noqa: E402
from utils.distributed.devices import Devices  # noqa: E402
from utils.errors import UserError  # noqa: E402
from utils.exit_codes import exit_code_of  # noqa: E402

signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background job inherits that it is ignored
os.environ.pop("PYTHONUNBUFFERED", None)  # what a program has not flushed at its end is tested, too
TIMING = ("seconds", "items_per_second", "data_wait_share")


def pytest_addoption(parser):
    parser.addoption("--full-counts", action="store_true", help="repeat the tests marked `faults` as often as promised")


@pytest.fixture
def times(request):
    """How often to repeat: `times(few, promised)`."""
    return lambda few, promised: promised if request.config.getoption("--full-counts") else few


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)  # the models of the tests are too small for two


class Project:
    """Runs the commands on the embedded digits with a small model, in a save_dir of its own."""

    def __init__(self, folder, capfd):
        self.folder = folder
        self._capfd = capfd
        self.config = json.loads((ROOT / "tests" / "config.json").read_text())
        self.config["n_gpu"] = 0
        self.config["model"]["args"] |= {"channels": [4, 8], "hidden": 16}
        self.config["optimizer"]["args"]["lr"] = 0.001
        self.config["trainer"] |= {"save_dir": str(folder / "saved"), "epochs": 2, "tensorboard": False}

    def write_config(self, **sections):
        """Write the config with whole sections replaced; keys of `trainer` are merged."""
        config = json.loads(json.dumps(self.config))
        config["trainer"] |= sections.pop("trainer", {})
        path = self.folder / "config.json"
        path.write_text(json.dumps(config | sections))
        return path

    def command(self, script, *arguments):
        """Run a command in this process: its exit code, stdout and stderr."""
        self._capfd.readouterr()
        try:
            code = exit_code_of(lambda: script.main([str(argument) for argument in arguments]))
        except SystemExit as stop:  # argparse
            code = stop.code
        out, err = self._capfd.readouterr()
        return code, out, err

    def train(self, *arguments, **sections):
        """Start a run that must end well; its directory."""
        return self.train_with(self.write_config(**sections), *arguments)

    def train_with(self, config, *arguments):
        code, out, err = self.command(train_script, "-c", config, *arguments)
        assert code == 0, out + err
        return self.run_dirs()[-1]

    def trainer(self, devices=None, **sections):
        """A trainer as the command makes it, before its run."""
        plan = make_plan(load_config(self.write_config(**sections)))
        return build_trainer(plan, devices or Devices(), ["train", "valid"])

    def resume(self, run, *arguments):
        """Continue a run that must end well; its output."""
        code, out, err = self.command(train_script, "-r", run, *arguments)
        assert code == 0, out + err
        return out

    def refused(self, *arguments, script=train_script):
        """Run a command that must end with exit code 2, no traceback and no new run directory; its message.

        Without the place of a mistake in a config: those are in tests/bad_configs.
        """
        before = self.run_dirs()
        code, _, err = self.command(script, *arguments)
        assert code == 2
        assert "Traceback" not in err
        assert self.run_dirs() == before
        return re.sub(r"^error: (\S+\.json:\d+|--set \S+): (?=\w+(\.\w+)*: )", "error: ", err, flags=re.MULTILINE)

    def refused_config(self, *arguments, **sections):
        return self.refused("-c", self.write_config(**sections), *arguments)

    def test(self, *arguments):
        """Score; the metrics on the last line, and all of stdout."""
        code, out, err = self.command(test_script, *arguments)
        assert code == 0, out + err
        return json.loads(out.splitlines()[-1]), out

    def run_dirs(self):
        runs = filter(Path.is_dir, (self.folder / "saved").glob("*/*"))
        return sorted(runs, key=lambda path: path.stat().st_ctime_ns)


@pytest.fixture
def project(tmp_path, capfd):
    return Project(tmp_path, capfd)


@pytest.fixture
def write_into(monkeypatch):
    """Put a class into a module of the project, as if it were written there."""

    def write(module, cls):
        cls.__module__ = module.__name__
        monkeypatch.setattr(module, cls.__name__, cls, raising=False)

    return write


def metrics_of(run_dir):
    """The lines of metrics.jsonl, without what a clock says."""
    lines = [json.loads(line) for line in (Path(run_dir) / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMING} for line in lines]


def load(path):
    return torch.load(path, map_location="cpu", weights_only=True)


def assert_same(first, second, where="checkpoint"):
    assert type(first) is type(second), where  # to the last bit
    if isinstance(first, dict):
        assert list(first) == list(second), where
        for key in first:
            if key not in TIMING:
                assert_same(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), where
        for i, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_same(one, other, f"{where}.{i}")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    else:
        assert first == second, where


def state_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def refusal(call, module, *arguments, **options):
    """What a function says that refuses to do something to a module, and leaves it as it was."""
    before = state_of(module)
    with pytest.raises(UserError) as caught:
        call(module, *arguments, **options)
    assert_same(before, state_of(module))
    return str(caught.value)


def run_python(*arguments, cwd=ROOT, **options):
    """Run Python as a process of its own, with one thread, as the tests themselves."""
    command = [sys.executable, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    defaults = {"timeout": 100, "env": environment}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, **(defaults | options))


def start_training(*arguments, **options):
    """`python train.py` as a process that goes on beside the test, in a process group of its own."""
    command = [sys.executable, "train.py", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | options.pop("env", {})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True, **pipes, **options)


def wait_for(condition, what, seconds=60):
    """Look again and again until something is there."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds} seconds"
        time.sleep(0.02)
    return found


# ---- runs that a signal stops ----

AUGMENTED = {"type": "Digits", "args": {"train_transform": [{"type": "RandomShift", "args": {"padding": 1}}]}}
EPOCHS, STEPS = 2, 5  # with batches of 256


class Stopping:
    """Before a trainer's class: sends its process a signal in one step of the training or of the validation."""

    stop_at = None
    in_validation = False
    signal = signal.SIGTERM

    def train_step(self, batch):
        self.interrupt(self.step + 1, in_validation=False)
        return super().train_step(batch)

    def valid_step(self, batch):
        self.interrupt(self.step, in_validation=True)
        return super().valid_step(batch)

    def interrupt(self, step, in_validation):
        has_begun = hasattr(self, "_checkpoints")  # not in the trial step before the run
        if has_begun and step == self.stop_at and in_validation == self.in_validation:
            os.kill(os.getpid(), self.signal)


class Interrupting(Stopping, FullTrainer):
    """The supervised step, and the signal."""


class Scaling(Interrupting):
    """Scales the loss, and doubles the scale every third step."""

    def __init__(self, **parts):
        super().__init__(**parts)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=3)

    def train_step(self, batch):
        self.interrupt(self.step + 1, in_validation=False)
        inputs, targets = batch
        self.optimizer.zero_grad()
        loss = self.loss_fn(self.forward(inputs), targets)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return StepResult({"loss": loss, "scale": torch.tensor(self.scaler.get_scale())}, len(targets))

    def stateful(self):
        return super().stateful() | {"scaler": self.scaler}


@pytest.fixture
def run_with_stops(project, write_into, monkeypatch):
    """Train without a stop; train with stops at these steps, resumed after each; compare."""

    def run(*stops, trainer_class=Interrupting, in_validation=False, batch_size=256, **sections):
        write_into(trainer.trainer, trainer_class)
        monkeypatch.setattr(trainer_class, "in_validation", in_validation)
        settings = {"type": trainer_class.__name__, "epochs": EPOCHS} | sections.pop("trainer", {})
        loader = {"batch_size": batch_size} | sections.pop("data_loader", {})
        sections = {"dataset": AUGMENTED} | sections | {"trainer": settings, "data_loader": loader}
        monkeypatch.setattr(trainer_class, "stop_at", None)
        whole = project.train(**sections)
        config = project.write_config(**sections)
        for stop in stops:
            monkeypatch.setattr(trainer_class, "stop_at", stop)
            auto = [] if stop == stops[0] else ["-r", "auto"]
            code, out, err = project.command(train_script, "-c", config, *auto)
            assert code == 128 + trainer_class.signal, out + err
            stopped = project.run_dirs()[-1]
            assert load(stopped / "last.pth")["step"] == stop
        monkeypatch.setattr(trainer_class, "stop_at", None)
        out = project.resume(stopped)
        assert len(project.run_dirs()) == 2
        for name in ("last.pth", "model_best.pth"):
            assert_same(load(whole / name), load(stopped / name))
        assert metrics_of(whole) == metrics_of(stopped)
        return out

    return run
