"""`--list SECTION`: the names that a section may have as its type, with their arguments."""

from utils.config.lookup import KINDS, catalogue
from utils.config.signatures import signature_text
from utils.errors import UserError, closest


def listing(section: str) -> str:
    """
    Raises:
        UserError: no section of this name names anything.
    """
    kind = KINDS.get("metric" if section == "metrics" else section)
    if kind is None:
        raise UserError(f"--list {section}: no such section. {closest(section, [*KINDS, 'metrics'])}")
    lines = []
    for module, members in catalogue(kind).items():
        lines += [module, *(f"  {signature_text(target, kind)}" for target in members.values())]
    return "\n".join(lines)
