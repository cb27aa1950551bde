"""How a command ends: its exit code, and the one message of an error."""

import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from utils import PACKAGES
from utils.distributed.launch import check_launch, end_with_agent
from utils.distributed.processes import is_first, rank
from utils.distributed.signals import show_stacks_on_quit
from utils.encoding import discard, escape_on_screen, visible
from utils.errors import RunError, Stopped, UserError, has_begun
from utils.frames import own_line, short_traceback
from utils.known_secrets import forget, hidden
from utils.paths import PROJECT_ROOT

_FIRST_SPEAKS_SECONDS = 3.0
_format_warning = warnings.formatwarning


def exit_code_of(command: Callable[[], None]) -> int:
    """Run a command; turn an error that has a message of its own into that message and its exit code.

    Of several processes, only the first prints an error that all of them meet: the others wait, and are ended with it.
    """
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
    with suppress(OSError, ValueError):  # the exit code still tells
        for line in hidden(text).split("\n"):
            print(f"{who}{title}{visible(line)}", file=sys.stderr)


def _print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
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


def _missing_package(error: ModuleNotFoundError) -> str:
    """What to do about a package that is not installed; nothing about a module that the project itself lacks."""
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
