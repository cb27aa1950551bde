"""The house: which room may import which, and how large it may grow."""

import ast
import re
import sys

import pytest
from conftest import ROOT

ENTRIES = ("train", "test", "new_project")
ROOMS = {  # room: the rooms that it may import
    "utils": {"utils"},
    "model": {"model"},
    "logger": {"logger", "utils"},
    "base": {"base", "logger", "utils"},
    "data_loader": {"data_loader", "base", "utils"},
    "trainer": {"trainer", "base", "logger", "utils"},
    "extras": {"extras", "trainer", "data_loader", "model", "base", "logger", "utils"},
    **{entry: {"train", "test", "trainer", "data_loader", "model", "base", "logger", "utils"} for entry in ENTRIES},
}
TOP = {
    "train.py", "test.py", "config.json", "base", "data_loader", "model", "trainer", "logger", "utils", "saved",
    "requirements.txt",
}  # fmt: skip
READING_PATH = ("config.json", "train.py", "trainer/trainer.py", "base/base_trainer.py")


def sources(*rooms):
    files = [ROOT / f"{room}.py" for room in rooms if (ROOT / f"{room}.py").is_file()]
    return files + [path for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]


CORE = sources(*ROOMS)
ALL = sorted(CORE + sources("tests", "scripts", "examples", "benchmarks"))


def named(path):
    return str(path.relative_to(ROOT))


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path):
    """The modules that a file imports, anywhere in it."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{named(path)}: imports are absolute"
            assert [alias.name for alias in node.names] != ["*"], f"{named(path)}: no star imports"
            yield node.module


def room_of(path):
    """`python -m ROOM` starts a room's `__main__.py`: an entry, as those at the top are."""
    return "train" if path.name == "__main__.py" else path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", CORE, ids=named)
def test_imports_run_one_way(path):
    found = {name.split(".")[0] for name in imports(path)} & set(ROOMS)
    assert found <= ROOMS[room_of(path)]


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_modules(path, modules):
    """Those of `modules` that a file imports: anywhere in it, also for its types alone."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names} & modules
            yield from names or {node.module} & modules


def test_imports_make_no_circle():
    modules = {module_of(path): path for path in CORE}
    left = {name: set(imported_modules(path, set(modules))) - {name} for name, path in modules.items()}
    while free := [name for name, needed in left.items() if not needed & left.keys()]:
        for name in free:
            del left[name]
    assert left == {}, "each of these imports another one of them"


@pytest.mark.parametrize("path", ALL, ids=named)
def test_no_file_over_300_lines_and_no_function_over_50(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LIMITS.get(room_of(path), 300)
    for node in ast.walk(tree_of(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno + 1 <= 50, node.name


LIMITS = {"train": 99}


def test_the_reading_path_is_short():
    assert sum(len((ROOT / name).read_text().splitlines()) for name in READING_PATH) <= 500


def lines_of_class(path, name):
    """Lines of a class without its docstring."""
    tree = tree_of(ROOT / path)
    (found,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    docstring = found.body[0]
    return found.end_lineno - found.lineno + 1 - (docstring.end_lineno - docstring.lineno + 1)


def test_the_steps_are_short_and_know_nothing_of_several_processes():
    assert lines_of_class("trainer/trainer.py", "Trainer") <= 60
    assert lines_of_class("trainer/full_trainer.py", "FullTrainer") <= 120
    for path in (*sources("trainer"), *sources("examples")):
        assert not re.search(r"world_size|all_reduce|\.gradient_weight|\]\.weight", path.read_text(encoding="utf-8"))


def test_the_top_level_is_that_of_the_contract():
    assert TOP <= {path.name for path in ROOT.iterdir()}
    assert "util.py" not in {path.name for path in ALL}


def only_in(pattern, *allowed):
    found = {named(path) for path in CORE if re.search(pattern, path.read_text(encoding="utf-8"))}
    assert found == set(allowed)


def test_one_file_knows_each_of_these():
    only_in(r"torch\.load\b|pickle\.load", "utils/checkpoints/checkpoint.py")
    only_in(r"SummaryWriter\b", "logger/tensorboard.py")
    only_in(
        r"\bRANK\b|_RANK\b|WORLD_SIZE|TORCHELASTIC", "utils/distributed/processes.py", "utils/distributed/launch.py"
    )
    only_in(r"import distributed as dist|init_process_group", "utils/distributed/processes.py")
    only_in(
        r"torch\.distributed\b",
        "utils/distributed/exact_gradients.py",
        "utils/distributed/processes.py",
        "utils/distributed/shards.py",
        "utils/checkpoints/sharded_files.py",
        "utils/snapshot.py",
    )


def test_only_the_entry_scripts_touch_the_config():
    for path in sources("base", "data_loader", "model", "trainer", "logger"):
        found = {name for name in imports(path) if name.startswith("utils.config")} - {"utils.config.options"}
        assert room_of(path) in ENTRIES or named(path) == "base/build.py" or not found, named(path)


def test_the_run_around_the_step_knows_no_task():
    words = re.compile(r"\b(images?|token_ids|vocabulary|pixels?|digits)\b", re.IGNORECASE)
    for path in sources("base", "logger", "utils"):
        assert not words.search(path.read_text(encoding="utf-8")), f"{named(path)}: {words.search(path.read_text())}"


def requirements(name):
    lines = (ROOT / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-r"))]


def test_requirements_are_what_the_core_imports_with_bounds_on_both_sides():
    packages = {re.split(r"[<>=]", line)[0] for line in requirements("requirements.txt")}
    imported = {name.split(".")[0] for path in CORE for name in imports(path)}
    if any("torch.utils.tensorboard" in set(imports(path)) for path in CORE):
        imported.add("tensorboard")
    imported = {{"yaml": "pyyaml"}.get(name, name) for name in imported}
    assert packages == imported - set(sys.stdlib_module_names) - set(ROOMS)
    for line in requirements("requirements.txt"):
        assert re.fullmatch(r"[\w-]+>=[\d.]+,<[\d.]+", line), line


def test_every_public_class_and_module_of_the_core_says_what_it_is_for():
    for path in CORE:
        tree = tree_of(path)
        assert ast.get_docstring(tree) or path.name == "__init__.py", named(path)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{named(path)}: {node.name}"


def opens_text_without_encoding(node):
    """Whether a call reads or writes text in the encoding of the machine: cp949, cp1252, UTF-8."""
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    values = [
        arg.value
        for arg in [*node.args, *(keyword.value for keyword in node.keywords)]
        if isinstance(arg, ast.Constant)
    ]
    is_text = {"text", "universal_newlines"} & {keyword.arg for keyword in node.keywords}
    opens = name in ("read_text", "write_text", "fdopen", "FileHandler") or (
        name == "open" and getattr(node.func, "attr", "open") == "open"
    )
    is_of_os = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "os" and name == "open"
    is_binary = any(isinstance(value, str) and re.fullmatch(r"[rwaxbt+]*b[rwaxbt+]*", value) for value in values)
    has_encoding = "encoding" in {keyword.arg for keyword in node.keywords}
    return bool(is_text or opens) and not (is_binary or is_of_os or has_encoding)


@pytest.mark.parametrize("path", CORE + sources("examples", "scripts"), ids=named)
def test_text_files_are_utf8_on_every_machine(path):
    calls = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]
    assert [node.lineno for node in calls if opens_text_without_encoding(node)] == []


def test_no_file_names_a_place_of_one_machine():
    texts = [path for pattern in ("*.md", "*.json", "*.toml", "*.txt", "configs/*.json") for path in ROOT.glob(pattern)]
    for path in [*ALL, *texts]:
        assert not re.search(r"/(home|root|Users)/\w", path.read_text(encoding="utf-8")), named(path)
