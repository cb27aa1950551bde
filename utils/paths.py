"""Where the project stands, so that commands work from any working directory."""

from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parent.parent


def project_path(path: str | Path) -> Path:
    """A path written in a config: absolute, `~`, or relative to the project's root."""
    return PROJECT_ROOT / Path(path).expanduser()


def shown_path(path: Path) -> str:
    """The path as a person would type it: relative to the working directory where it lies below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
