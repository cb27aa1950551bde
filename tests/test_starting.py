"""Starts that are not `python train.py` in the project's environment: notebooks, other launchers, other Pythons."""

import shutil
import sys

import pytest
from conftest import ROOT, load, run_python

CODE = ("base", "data_loader", "logger", "model", "trainer", "utils", "train.py", "test.py")
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


# ---- notebooks ----

NOTEBOOK = """
import sys, threading
sys.path.append(sys.argv[1])  # as in a notebook's first cell: behind Python's own package `test`

class Cell:
    "What a notebook has in the place of a stream."
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
