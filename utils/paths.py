"""Where the project stands, so that commands work from any working directory; and paths that people write."""

import errno
import os
from pathlib import Path

from utils.errors import UserError, shown

PROJECT_ROOT = Path(__file__).resolve().parent.parent


class PathError(UserError):
    """No file can have this name here."""


def project_path(path: str | Path) -> Path:
    """A path written in a config: absolute, `~`, or relative to the project's root.

    Raises:
        PathError: no file can have this name.
    """
    return usable_path(path, PROJECT_ROOT)


def usable_path(path: str | Path, folder: Path = Path()) -> Path:
    """A path that a person wrote: absolute, `~`, or relative to a folder.

    Raises:
        PathError: no file can have this name.
    """
    try:
        found = folder / Path(path).expanduser()
        os.lstat(found)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            return found
        reason = "it is too long. Write a shorter one"
    except RuntimeError:
        reason = "there is no such user. Write the path of the folder"
    except UnicodeEncodeError as error:
        reason = f"this system's file names are {error.encoding.upper()}. Set PYTHONUTF8=1, or use other characters"
    except ValueError:
        reason = "it has a NUL character. Leave it out"
    else:
        return found
    raise PathError(f"{shown(str(path))} cannot be a path: {reason}.")


def shown_path(path: Path) -> str:
    """The path as a person would type it: relative to the working directory where it lies below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
