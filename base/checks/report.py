"""What a check has found: rows to read, and problems to mend."""

from collections.abc import Iterable

from utils.encoding import print_visible
from utils.errors import UserError


class Report:
    """Collects in the order of work; `close` prints the rows and tells the problems."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, str]] = []
        self._problems: list[str] = []

    def row(self, label: str, value: str) -> None:
        self._rows.append((label, value))

    def note(self, text: str) -> None:
        """Something to know, which may be meant so."""
        self.row("note", text)

    def problem(self, text: str) -> None:
        """Something to mend, as `<where>: <what was found>. <what to write>.`; told once."""
        if text not in self._problems:
            self._problems.append(text)

    @property
    def problems(self) -> list[str]:
        return list(self._problems)

    @property
    def notes(self) -> list[str]:
        return [text for label, text in self._rows if label == "note"]

    @property
    def is_clean(self) -> bool:
        return not self._problems

    def close(self) -> None:
        """Print it.

        Raises:
            UserError: there are problems; a line each.
        """
        self.row("problems", str(len(self._problems) or "none"))
        width = max(len(label) for label, _ in self._rows)
        for label, value in self._rows:
            print_visible(f"{label.ljust(width)}  {value}")
        if self._problems:
            raise UserError("\n".join(self._problems))


def listed(names: Iterable[object], most: int = 4) -> str:
    """The first names, and how many more there are."""
    texts = [str(name) for name in names]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most:,} more" if len(texts) > most else "")
