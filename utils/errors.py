"""Errors that the user can mend, and how a command ends on one."""

import difflib
import sys
from collections.abc import Callable, Iterable


class UserError(Exception):
    """A config, argument or input is wrong: shown as one message without a traceback, exit code 2.

    The message reads `<where>: <what was found>. <closest match, or the choices>.`
    """


class ConfigError(UserError):
    """One or more mistakes in a config; all of them, a line each."""

    def __init__(self, *mistakes: str):
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


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
    """Run a command; turn a `UserError` into its message and exit code 2."""
    try:
        command()
    except UserError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 2
    return 0
