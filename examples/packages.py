"""Packages that only examples need: requirements-examples.txt lists them."""

import importlib
from typing import Any

from utils.errors import UserError


def needed(module: str) -> Any:
    """Import a module of such a package.

    Raises:
        UserError: it is not installed; says what installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        name = str(error.name).partition(".")[0]
        package = {"sklearn": "scikit-learn"}.get(name, name)
        raise UserError(f"{package} is not installed. Run: pip install -r requirements-examples.txt") from error
