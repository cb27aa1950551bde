"""The parser of a command line."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from utils.known_secrets import hidden
from utils.secrets import redacted_arguments


class Parser(argparse.ArgumentParser):
    """Its messages quote no secret, such as the token behind an option that there is not."""

    _given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._given = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        for argument, shown in zip(self._given, redacted_arguments(self._given, is_message=True), strict=True):
            message = message.replace(argument, shown) if shown != argument else message
        super().error(hidden(message))
