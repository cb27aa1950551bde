"""Errors that are told in one message, and how a command ends on each."""

import difflib
import json
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any

from utils.known_secrets import forget, hidden

_FIRST_SPEAKS_SECONDS = 3.0
_format_warning = warnings.formatwarning


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
    text = hidden(repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=repr))
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
    from utils.encoding import discard, escape_on_screen

    forget()
    escape_on_screen()
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _print_traceback
    warnings.formatwarning = lambda *warning, **options: hidden(_format_warning(*warning, **options))
    code = _code_of(command)
    if refused := discard(sys.stdout):  # as `> /dev/full` does; a run whose messages were lost has discarded them
        code = code or 1
        _print_refused(refused)
    discard(sys.stderr)
    return code


def _code_of(command: Callable[[], None]) -> int:
    from utils.distributed.launch import check_launch, end_with_agent
    from utils.distributed.processes import is_first, rank
    from utils.distributed.signals import show_stacks_on_quit
    from utils.encoding import discard
    from utils.frames import short_traceback

    who = ""
    show_stacks_on_quit()
    try:
        check_launch()
        end_with_agent()
        who = "" if is_first() else f"[rank {rank()}] "
        command()
    except (UserError, RunError) as error:
        time.sleep(0 if not who else _FIRST_SPEAKS_SECONDS)
        _print_error(who, str(error))
        return 2 if isinstance(error, UserError) else 1
    except ModuleNotFoundError as error:
        if not (missing := _missing_package(error)):
            raise
        _print_error(who, missing)
        return 2
    except Stopped as stop:
        return 128 + stop.by
    except KeyboardInterrupt:
        _print_error("", "Stopped at once.", title="")
        return 128 + signal.SIGINT
    except SystemExit as stop:  # argparse has printed its message
        if not isinstance(stop.code, int):
            raise
        return stop.code
    except Exception as error:
        if isinstance(error, BrokenPipeError) or _is_of_print(error):
            discard(sys.stdout)
            _print_refused(error)  # type: ignore[arg-type]
            return 1
        time.sleep(0 if not who else _FIRST_SPEAKS_SECONDS)
        if (text := short_traceback(error)) is None:
            raise
        _print_error(who, text)
        return 1 if has_begun(error) else 2
    return 0


def _print_error(who: str, text: str, title: str = "error: ") -> None:
    from utils.encoding import visible

    with suppress(OSError, ValueError):  # the exit code still tells
        for line in hidden(text).split("\n"):
            print(f"{who}{title}{visible(line)}", file=sys.stderr)


def _print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    from utils.encoding import visible

    with suppress(OSError, ValueError):
        sys.stderr.write(visible(hidden("".join(traceback.format_exception(kind, error, trace)))))


def _is_of_print(error: Exception) -> bool:
    """Whether a print to stdout has failed, which is written in C: the innermost line is the one with the print."""
    if not isinstance(error, OSError) or error.filename is not None:
        return False
    *_, last = traceback.extract_tb(error.__traceback__)
    return "print(" in (last.line or "")


def _print_refused(error: OSError) -> None:
    if not isinstance(error, BrokenPipeError):  # `| head` has seen enough
        _print_error("", f"stdout: cannot be written: {error.strerror or error}. Some of the output is lost.")


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
