"""Starts that are not `python train.py` in the project's environment: notebooks, other launchers, other Pythons."""

import os
import shutil
import socket
import sys

import pytest
from conftest import ROOT, load, run_python

import test as test_script

CODE = ("base", "data_loader", "extras", "logger", "model", "trainer", "utils", "train.py", "test.py")
COMMANDS = {
    "train": ["train.py", "-c", "config.json"],
    "test": ["test.py", "-r", "saved/none"],
    "data": ["-m", "data_loader", "-c", "config.json"],
}


@pytest.fixture
def copy(tmp_path):
    """The code of the project in a folder of its own, where files may be added."""
    for name in CODE:
        source = ROOT / name
        make = shutil.copytree if source.is_dir() else shutil.copy
        make(source, tmp_path / name, **({"ignore": shutil.ignore_patterns("__pycache__")} if source.is_dir() else {}))
    shutil.copy(ROOT / "tests" / "config.json", tmp_path)
    return tmp_path


# ---- Pythons and packages ----


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_python_without_torch_is_named_with_what_to_do(command):
    done = run_python("-S", *command)  # -S: without the environment's packages
    assert done.returncode == 2 and "Traceback" not in done.stderr
    message = f" is not installed for {sys.executable}. Activate the environment: source .venv/bin/activate\n"
    assert done.stderr == f"error: torch{message}"


def test_a_package_that_a_module_of_the_project_lacks_is_named_with_its_line(copy):
    model = copy / "model" / "model.py"
    model.write_text(f"import timmm\n{model.read_text(encoding='utf-8')}", encoding="utf-8")
    done = run_python("train.py", "-c", "config.json", cwd=copy)
    assert done.returncode == 2 and done.stderr == (
        f"error: model/model.py:1: timmm is not installed for {sys.executable}. "
        "Install its package with pip, or correct the name.\n"
    )


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("name", ["torch", "random", "logging", "numpy"])
def test_a_file_that_hides_a_package_is_named(copy, command, name):
    (copy / f"{name}.py").write_text("print('mine')\n")
    done = run_python(*command, cwd=copy)
    assert done.returncode == 2
    assert done.stderr == f"error: {name}.py in the project hides the package {name}. Rename it.\n"


def test_a_folder_that_hides_a_package_is_named(copy):
    (copy / "torch").mkdir()
    (copy / "torch" / "__init__.py").write_text("")
    done = run_python(*COMMANDS["train"], cwd=copy)
    assert done.returncode == 2
    assert done.stderr == "error: torch in the project hides the package torch. Rename it.\n"


def test_a_working_directory_that_is_gone_is_said(tmp_path):
    (tmp_path / "gone").mkdir()
    script = f"import os, sys; os.rmdir(os.getcwd()); sys.path.insert(0, {str(ROOT)!r}); import train"
    done = run_python("-c", script, cwd=tmp_path / "gone")
    assert done.returncode == 2
    assert done.stderr == "error: the working directory has been deleted. Change to another one.\n"


# ---- notebooks ----

NOTEBOOK = """
import sys, threading
sys.path.append(sys.argv[1])  # as in a notebook's first cell: behind Python's own package `test`

class Cell:
    "The stdout of a notebook."
    def __init__(self): self.text = ""
    def write(self, text): self.text += text
    def flush(self): pass

screen, cell, sys.stdout, sys.stderr = sys.stdout, Cell(), Cell(), Cell()
cell, failures = sys.stdout, []

def run():
    import train
    from data_loader import __main__ as look
    for more in [], ["-r", "auto"], ["--folds", "2"], ["--print-config"], ["--fast-dev-run"]:
        train.main(["-c", sys.argv[2], "--set", "trainer.tensorboard=false", *more])
    look.main(["-c", sys.argv[2], "--out", sys.argv[2] + ".png"])

def noting():
    try:
        run()
    except BaseException as error:
        failures.append(repr(error))

if sys.argv[3] == "thread":
    thread = threading.Thread(target=noting)
    thread.start()
    thread.join()
else:
    noting()
screen.write(repr(failures) + cell.text)
"""


@pytest.mark.parametrize("where", ["main", "thread"])
def test_the_commands_are_functions_of_a_notebook(project, where):
    """Twice in one process, the project's folder last in sys.path, streams that only write, perhaps in a thread."""
    config = project.write_config(trainer={"epochs": 1}, data_loader={"batch_size": 64, "num_workers": 1})
    done = run_python("-c", NOTEBOOK, ROOT, config, where, cwd=project.folder)
    assert done.returncode == 0 and done.stdout.startswith("[]"), done.stdout + done.stderr
    assert "New run in" in done.stdout and "is finished" in done.stdout and "and predictions.csv" in done.stdout
    assert load(project.run_dirs()[0] / "last.pth")["epoch"] == 1


# ---- other launchers ----

STEP = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
OTHER = "has started several processes, and each would train a run of its own. Let torchrun start"
TWO = "has started 2 processes, and each would train a run of its own. Let torchrun start"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (STEP | {"SLURM_PROCID": "1"}, f"SLURM_PROCID: srun {OTHER}"),
        (STEP | {"SLURM_STEP_NUM_TASKS": "2"}, f"SLURM_PROCID: srun {TWO}"),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}, f"OMPI_COMM_WORLD_RANK: mpirun {TWO}"),
        ({"PMI_RANK": "0", "PMI_SIZE": "2"}, f"PMI_RANK: mpiexec {TWO}"),
        ({"PMIX_RANK": "1"}, f"PMIX_RANK: prterun {OTHER}"),
        ({"RANK": "banana", "WORLD_SIZE": "2"}, "RANK: found 'banana' in the environment, not a number."),
        ({"RANK": "0", "WORLD_SIZE": "9" * 400}, "WORLD_SIZE: found '999"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK: found '-1' in the environment, not a number."),
        ({"RANK": "0"}, "WORLD_SIZE: missing in the environment, which has RANK=0. For a run of this process alone: "),
        ({"RANK": "", "WORLD_SIZE": "2"}, "RANK: missing in the environment, which has WORLD_SIZE=2."),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR: missing in the environment, which has RANK=0, WORLD_SIZE=2."),
        (
            {"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "::1", "MASTER_PORT": "1"},
            "RANK: found 2 in the environment",
        ),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "x"}, "LOCAL_RANK: found 'x' in the environment"),
    ],
)
def test_several_processes_that_torchrun_has_not_started_are_refused(project, monkeypatch, variables, message):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    err = project.refused_config()
    assert err.startswith(f"error: {message}") and "env -u " in err and len(err.splitlines()) == 1
    assert project.refused("-r", "saved/none", script=test_script) == err


@pytest.mark.parametrize(
    "variables",
    [STEP, {"RANK": "", "WORLD_SIZE": ""}, {"RANK": "0", "WORLD_SIZE": "1"}, {"OMPI_COMM_WORLD_SIZE": "1"}],
    ids=["a batch script of a job of two tasks", "empty", "one of one", "mpirun of one"],
)
def test_one_process_trains_whatever_started_it(project, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    project.train(trainer={"epochs": 1})


def test_what_is_left_of_another_start_is_said_to_be_waited_for(project):
    """The first of two, of which the second never comes."""
    config = project.write_config()
    script = "import train; import utils.distributed.processes as d; d._WAIT_SECONDS, d._CONNECT_MINUTES = 0.1, 0.01;"
    script += "raise SystemExit(train.exit_code_of(train.main))"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    others = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for rank in "01":
        environment = os.environ | others | {"RANK": rank}
        done = run_python("-c", script, "-c", config, env=environment)
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        assert f"rank {rank} of 2 cannot meet the others at 127.0.0.1:{port}: " in done.stderr
        assert ("Waiting for the others of 2 processes. If there are none: unset" in done.stdout) == (rank == "0")
    assert project.run_dirs() == []
