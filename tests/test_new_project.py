"""A project made from the template stands on its own: its tests pass, and it trains."""

import json
import os
import re
import shutil
import subprocess

import pytest
from conftest import ROOT, run_python

import new_project


def make(target, *options):
    done = run_python("new_project.py", target, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def git(folder, *arguments):
    return subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True).stdout


@pytest.mark.timeout(400)
@pytest.mark.parametrize("options", [[], ["--minimal"]])
def test_its_own_tests_pass_and_its_default_run_trains(tmp_path, options):
    target = tmp_path / "my_project"
    out = make(target, *options)
    assert "Its first commit is made" in out
    assert git(target, "log", "--format=%s") == "Start my_project from the template\n"
    of_the_tree = ["tests/test_architecture.py"]
    if options:  # what is left out could be missed there
        done = run_python("train.py", "-c", "config.json", cwd=target)
        assert done.returncode == 0, done.stderr
        done = run_python("-m", "pytest", "-n", "0", "--collect-only", cwd=target)
        assert done.returncode == 0, done.stdout[-3000:]
        of_the_tree += ["tests/test_config_schema.py", "tests/test_readme.py"]
    as_in_the_template = (
        "command_trains or command_runs or processes or recipes or config_of_the_readme or of_the_page or make_"
    )
    done = run_python("-m", "pytest", "-n", "0", *of_the_tree, "-k", f"not ({as_in_the_template})", cwd=target)
    assert done.returncode == 0, done.stdout[-3000:]
    assert git(target, "status", "--porcelain") == ""


def test_it_holds_what_a_project_needs_and_no_more(tmp_path):
    make(tmp_path / "full")
    present = {path.name for path in (tmp_path / "full").iterdir()}
    assert {".ci", ".git", ".github", ".gitignore", "LICENSE", "Makefile", "README.md", "configs", "tests"} <= present
    assert not {"new_project.py", "data", ".venv", "__pycache__"} & present
    assert [path.name for path in (tmp_path / "full" / "scripts").iterdir()] == ["slurm.sbatch"]
    assert [path.name for path in (tmp_path / "full" / "saved").iterdir()] == ["README.md"]
    make(tmp_path / "small", "--minimal")
    small = {path.name for path in (tmp_path / "small").iterdir()}
    assert "configs" in present - small <= {"configs", "docs", "examples", "benchmarks", "requirements-bench.txt"}


def test_the_template_shows_all_its_folders_and_tests_its_own_config():
    """A project made from it may have more folders, and another config."""
    shown = set(
        re.findall(r"^(\S+)  ", re.search(r"```text\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1], re.M)
    )
    tracked = {path.split("/")[0] for path in git(ROOT, "ls-files").splitlines()}
    assert shown == {name for name in tracked if not name.startswith(".")} - {"README.md"}
    assert (ROOT / "config.json").read_text().replace("schema/", "../schema/", 1) == (
        ROOT / "tests" / "config.json"
    ).read_text()


def test_its_lint_and_types_have_what_they_look_at(tmp_path):
    make(tmp_path / "project", "--minimal")
    for command in (["check"], ["format", "--check"]):
        done = run_python("-m", "ruff", *command, cwd=tmp_path / "project")
        assert done.returncode == 0, done.stdout
    files = re.search(r"^files = (\[.*\])$", (tmp_path / "project" / "pyproject.toml").read_text(), re.M)[1]
    assert all(list((tmp_path / "project").glob(name)) for name in json.loads(files))


def test_it_is_named_and_says_nothing_of_the_template(tmp_path):
    make(tmp_path / "my_project")
    text = (tmp_path / "my_project" / "README.md").read_text()
    assert text.startswith("# my_project\n") and "new_project" not in text and "<!-- template" not in text


def test_folders_of_any_name_further_down_are_copied(tmp_path, monkeypatch):
    """Only at the top are `data` and `saved` not the project's own. This template was downloaded without git."""
    template = tmp_path / "template"
    for path in ("model/data/a.py", "data/big.bin", "saved/run/last.pth", ".venv/pyvenv.cfg", "x/__pycache__/a.pyc"):
        (template / path).parent.mkdir(parents=True, exist_ok=True)
        (template / path).write_text("")
    monkeypatch.setattr(new_project, "PROJECT_ROOT", template)
    assert {path.as_posix() for path in new_project.files(set())} == {"saved/README.md", "model/data/a.py"}


def test_what_git_ignores_is_not_copied(tmp_path, monkeypatch):
    template = tmp_path / "template"
    for path, text in {".gitignore": ".env\n", ".env": "token", "new.py": "", "saved/run/last.pth": ""}.items():
        (template / path).parent.mkdir(parents=True, exist_ok=True)
        (template / path).write_text(text)
    git(template, "init", "-q")
    monkeypatch.setattr(new_project, "PROJECT_ROOT", template)
    assert {path.as_posix() for path in new_project.files(set())} == {"saved/README.md", ".gitignore", "new.py"}


@pytest.mark.parametrize("trap", ["worktree", "environment"])
def test_git_of_the_new_project_is_its_own(tmp_path, monkeypatch, trap):
    """In a worktree `.git` is a file that leads to the template; GIT_DIR may lead anywhere."""
    template, target = tmp_path / "template", tmp_path / "project"
    for path in new_project.files(set()):
        (template / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, template / path)
    git(template, "init", "-q")
    git(template, "add", "-A")
    git(template, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "template")
    before, start = git(template, "rev-parse", "HEAD"), template
    if trap == "worktree":
        start = tmp_path / "worktree"
        git(template, "worktree", "add", "-q", str(start))
    else:
        monkeypatch.setenv("GIT_DIR", str(template / ".git"))
    done = run_python(start / "new_project.py", target)
    assert done.returncode == 0, done.stderr
    monkeypatch.delenv("GIT_DIR", raising=False)
    assert git(template, "rev-parse", "HEAD") == before
    assert (target / ".git").is_dir() and git(target, "log", "--format=%s") == "Start project from the template\n"


def refused(*arguments):
    done = run_python("new_project.py", *arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    return done.stderr


def test_a_target_that_is_not_empty_is_refused_and_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert "is there and not empty. Nothing was changed; choose another folder." in refused(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert "is there and not empty" in refused(tmp_path / "notes.txt")


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("~no_such_user/x", " cannot be a path: there is no such user."),
        ("a" * 5000, " cannot be a path: it is too long."),
    ],
)
def test_a_target_that_no_folder_can_be_is_refused(target, why):
    assert why in refused(target)


def test_an_empty_target_is_taken(tmp_path):
    make(tmp_path)
    assert (tmp_path / "train.py").is_file()


def test_a_target_inside_the_template_is_refused():
    assert "lies in the template itself" in refused("my_project")
    assert not (ROOT / "my_project").exists()


def test_a_target_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused(tmp_path / "file" / "project")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_without_an_identity_git_commits_as_nobody(tmp_path, monkeypatch):
    """A new machine: git does not know its user."""
    for name in list(os.environ):
        if name.startswith("GIT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.useConfigOnly")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "true")
    assert "by nobody: git does not know your user.name and user.email." in make(tmp_path / "project")


def test_without_git_the_project_is_made_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "It is not under git" in make(tmp_path / "project")
    assert (tmp_path / "project" / "train.py").is_file()


@pytest.mark.parametrize("target", ["~no_such_user/x", "a" * 5000, "a" * 250, "circle", "circle/x", "/dev/null/x"])
def test_a_target_that_no_folder_can_be_is_one_message(tmp_path, target):
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    done = run_python(ROOT / "new_project.py", target, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: "), done.stderr
    assert len(done.stderr.splitlines()) == 1 and [path.name for path in tmp_path.iterdir()] == ["circle"]
