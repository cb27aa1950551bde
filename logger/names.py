"""The names of an epoch's values: which ones are the run's own, and which ones a person's code may give."""

from typing import Any

from logger.means import as_number
from logger.tables import VALID
from utils.config.options import is_name_of_the_run
from utils.errors import BadReturn


def check_names(where: str, names: tuple[str, ...]) -> None:
    """Raise `BadReturn` for a name of a step's mean that would hide another value of the epoch."""
    for name in names:
        _check_name(where, name)
        if name.startswith(VALID):
            raise BadReturn(f"{where}: {name!r}: names that begin with {VALID!r} are those of the validation.")


def checked_values(where: str, own: dict[str, Any], values: dict[str, Any]) -> dict[str, float]:
    """The values of an epoch after `on_epoch_end` has seen them, all as floats. `own`: those from before.

    Raises:
        BadReturn: one is no number, or has the name of a value that is the run's own.
    """
    kept = {name: value for name, value in own.items() if is_name_of_the_run(name)}
    for name in values:
        if name not in own or (name in kept and values[name] is not kept[name]):
            _check_name(where, name)
    numbers = {name: as_number(value, f"{where}: {name!r}") for name, value in values.items() if name not in kept}
    return kept | {name: own[name] if values[name] is own.get(name) else number for name, number in numbers.items()}


def _check_name(where: str, name: Any) -> None:
    if not isinstance(name, str) or not name.isprintable() or not name:
        raise BadReturn(f"{where}: {name!r} is no name of a value. Use a text.")
    if is_name_of_the_run(name):
        raise BadReturn(f"{where}: {name!r} is a value of the run's own. Choose another name.")
