"""Load an optional capability, when an option of a command asks for it."""

import importlib
from typing import Any

from utils.errors import UserError


def extra(name: str, option: str) -> Any:
    """Import `extras/NAME`.

    Raises:
        UserError: this copy of the project has no such extra.
    """
    try:
        return importlib.import_module(f"extras.{name}")
    except ModuleNotFoundError as error:
        if not f"extras.{name}".startswith(str(error.name)):
            raise
        raise UserError(
            f"{option}: this project has no extras/{name}. Copy the folder extras/ from the template, or leave the "
            "option out."
        ) from None
