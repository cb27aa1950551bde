"""Start a project of your own from this template.

python new_project.py ../my_project
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from utils.errors import UserError
from utils.exit_codes import exit_code_of
from utils.paths import PROJECT_ROOT, usable_path

NOT_COPIED = {".git", "saved", "data"}  # at the top; further down, such a name is a project's own
CACHES = re.compile(r"__pycache__|\..*_cache|\.hypothesis|\.ipynb_checkpoints|\.DS_Store")
OF_THE_TEMPLATE = {
    "new_project.py",
    "tests/test_new_project.py",
    "scripts/make_digits.py",
    "scripts/screenshot_tensorboard.py",
    "docs/tensorboard.png",
    "requirements-docs.txt",
}
# Left out by --minimal.
EXTRAS = {
    "examples",
    "configs",
    "benchmarks",
    "requirements-bench.txt",
    "tests/test_configs.py",
    "tests/test_benchmarks.py",
    "tests/test_example*.py",
    "tests/streams_on_ranks.py",
    "tests/test_speed_benchmark.py",
}


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path, help="the folder to make; its name becomes the project's")
    parser.add_argument("--minimal", action="store_true", help=f"leave out {', '.join(sorted(EXTRAS))}")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)
    target = Path(os.path.realpath(usable_path(args.target)))  # Path.resolve raises where links lead in a circle
    check_target(target)
    left_out = OF_THE_TEMPLATE | (EXTRAS if args.minimal else set())
    partial = target.with_name(f".{target.name}.partial")
    try:
        for path in files(left_out):
            copy = partial / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT_ROOT / path, copy)
        readme = partial / "README.md"
        readme.write_text(own_readme(partial, target.name, args.minimal), encoding="utf-8")
        if target.exists():
            target.rmdir()  # it is empty
        os.replace(partial, target)
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(f"Made {target}\n{first_commit(target)}\nNext: cd {args.target}, and the commands of its README.md.")


def check_target(target: Path) -> None:
    if target.is_relative_to(PROJECT_ROOT):
        raise UserError(f"{target}: lies in the template itself. Choose a folder beside it, such as ../my_project.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target}: is there and not empty. Nothing was changed; choose another folder.")


def files(left_out: set[str]) -> list[Path]:
    """What a project needs, relative to the template: no runs, data, environments or caches."""
    kept = [path for path in (_known_to_git() or _walked()) if path.parts[0] not in NOT_COPIED]
    return [
        Path("saved/README.md"),
        *(path for path in kept if not any(_is_in(path, pattern) for pattern in left_out)),
    ]


def _is_in(path: Path, pattern: str) -> bool:
    """Whether the pattern is of the path, or of a folder that it is in."""
    return any(fnmatchcase(part.as_posix(), pattern) for part in (path, *path.parents))


def _known_to_git() -> list[Path]:
    """The files that git tracks or would track; none where the template is no repository of its own."""
    if not (PROJECT_ROOT / ".git").exists():
        return []
    try:
        names = _git(PROJECT_ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    except (OSError, subprocess.CalledProcessError):
        return []
    return [Path(name) for name in names if name and (PROJECT_ROOT / name).is_file()]


def _walked() -> Iterator[Path]:
    for folder, folders, names in os.walk(PROJECT_ROOT):
        folders[:] = [
            name for name in folders if not CACHES.fullmatch(name) and not (Path(folder) / name / "pyvenv.cfg").exists()
        ]
        yield from (Path(folder, name).relative_to(PROJECT_ROOT) for name in names if not CACHES.fullmatch(name))


def own_readme(project: Path, name: str, is_minimal: bool) -> str:
    """The README under the project's name, without what is about the template or is not in the project."""
    text = (project / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"\A# .*", f"# {name}", text)
    for block in ["template", *(["extras"] if is_minimal else [])]:
        text = re.sub(rf"<!-- {block} -->.*?<!-- /{block} -->\n*", "", text, flags=re.DOTALL)

    def own_tree(block: re.Match[str]) -> str:
        lines = block[0].splitlines(keepends=True)
        return "".join(line for line in lines if line.startswith("`") or (project / line.split()[0]).exists())

    return re.sub(r"```text\n.*?```", own_tree, text, flags=re.DOTALL)


def first_commit(target: Path) -> str:
    """Put the project under git; what is in the way is said, and does not undo the copy."""
    try:
        _git(target, "init", "-q", "-b", "main")
        _git(target, "add", "-A")
        message = ["commit", "-q", "-m", f"Start {target.name} from the template"]
        try:
            _git(target, *message)
            return "Its first commit is made."
        except subprocess.CalledProcessError:  # nobody told git who they are
            _git(target, "-c", f"user.name={target.name}", "-c", "user.email=nobody@localhost", *message)
            return "Its first commit is made, by nobody: git does not know your user.name and user.email."
    except (OSError, subprocess.CalledProcessError) as error:
        return f"It is not under git: {error}"


def _git(folder: Path, *arguments: str) -> str:
    """Run git on this folder, whatever repository the environment points to."""
    other = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
    environment = {name: value for name, value in os.environ.items() if name not in other}
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, check=True, capture_output=True, env=environment)  # noqa: S603
    return os.fsdecode(done.stdout)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
