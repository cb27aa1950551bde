"""Errors that are printed as one message."""

import difflib
import json
import signal
from collections.abc import Iterable
from typing import Any

from utils.known_secrets import hidden


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


def note_run(error: BaseException) -> None:
    """Note on an error that a run had begun: there is something that can go on."""
    error.in_run = True  # type: ignore[attr-defined]


def has_begun(error: BaseException) -> bool:
    return getattr(error, "in_run", False)
