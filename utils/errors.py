"""Errors that are told in one message, and how a command ends on each."""

import difflib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

_FIRST_SPEAKS_SECONDS = 3.0


class UserError(Exception):
    """A config, argument or input is wrong: shown as one message without a traceback, exit code 2.

    The message reads `<where>: <what was found>. <closest match, or the choices>.`
    """


class ConfigError(UserError):
    """One or more mistakes in a config; all of them, a line each."""

    def __init__(self, *mistakes: str):
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class RunError(Exception):
    """A run that had begun cannot go on: shown as one message without a traceback, exit code 1."""


class BatchError(RunError):
    """There is no next batch. The step before it is whole, so the run can be saved and, once that is mended, go on."""


class BadReturn(RunError):
    """A method of the person's code has returned something that the run cannot use."""


class Stopped(Exception):
    """A signal asked the run to stop, and it did, between two steps. Exit code 128 + signal, as of a shell."""

    def __init__(self, by: signal.Signals):
        super().__init__(by.name)
        self.by = by


def shown(value: Any) -> str:
    """A value of a config as it is written there, but for the quotes of a text; cut where it is long."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 80 else f"{text[:77]}..."


def closest(name: str, choices: Iterable[str]) -> str:
    """The end of an error message: the closest choice, or all of them."""
    names = sorted(choices)
    matches = difflib.get_close_matches(name.lower(), [choice.lower() for choice in names], n=1, cutoff=0.6)
    if matches:
        same_but_for_case = [choice for choice in names if choice.lower() == matches[0]]
        match = max(same_but_for_case, key=lambda choice: difflib.SequenceMatcher(None, name, choice).ratio())
        return f"Closest match: {match}."
    if not names:
        return "Nothing can stand here."
    shown = ", ".join(names[:12])
    return f"Choices: {shown}{', ...' if len(names) > 12 else ''}."


def exit_code_of(command: Callable[[], None]) -> int:
    """Run a command; turn an error that has a message of its own into that message and its exit code.

    Of several processes, what all come upon is told by the first: the others wait, and are ended with it.
    """
    from utils.distributed import is_first, rank
    from utils.encoding import escape_on_screen, visible
    from utils.frames import short_traceback
    from utils.launch import check_launch

    escape_on_screen()
    try:
        check_launch()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    who = "" if is_first() else f"[rank {rank()}] "
    try:
        command()
    except (UserError, RunError) as error:
        time.sleep(0 if is_first() else _FIRST_SPEAKS_SECONDS)
        for line in str(error).split("\n"):
            print(f"{who}error: {visible(line)}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    except ModuleNotFoundError as error:
        if not (missing := _missing_package(error)):
            raise
        print(f"{who}error: {visible(missing)}", file=sys.stderr)
        return 2
    except Stopped as stop:
        return 128 + stop.by
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer goes there
        return 1
    except KeyboardInterrupt:
        print("Stopped at once.", file=sys.stderr)
        return 128 + signal.SIGINT
    except Exception as error:
        time.sleep(0 if is_first() else _FIRST_SPEAKS_SECONDS)
        if (text := short_traceback(error)) is None:
            raise
        for line in text.split("\n"):
            print(f"{who}error: {visible(line)}", file=sys.stderr)
        return 1 if has_begun(error) else 2
    return 0


def note_run(error: BaseException) -> None:
    """Note on an error that a run had begun: there is something that can go on."""
    error.in_run = True  # type: ignore[attr-defined]


def has_begun(error: BaseException) -> bool:
    return getattr(error, "in_run", False)


def _missing_package(error: ModuleNotFoundError) -> str:
    """What to do about a package that is not installed; nothing about a module that the project itself lacks."""
    from utils import PACKAGES
    from utils.frames import own_line
    from utils.paths import PROJECT_ROOT

    name = str(error.name).partition(".")[0]
    if (PROJECT_ROOT / name).exists() or (PROJECT_ROOT / f"{name}.py").exists():
        return ""
    if name not in PACKAGES:
        where = f"{line}: " if (line := own_line(error)) else ""
        return (
            f"{where}{name} is not installed for {sys.executable}. Install its package with pip, or correct the name."
        )
    activate = r".venv\Scripts\activate" if os.name == "nt" else "source .venv/bin/activate"
    return f"{name} is not installed for {sys.executable}. Activate the environment: {activate}"
