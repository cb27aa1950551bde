"""Where each value of a config was written, so that a message can say `config.json:12: trainer.epochs: ...`."""

from dataclasses import dataclass, field
from types import TracebackType

from utils.errors import ConfigError
from utils.secrets import is_secret


@dataclass(frozen=True)
class Place:
    """`name`: a file and line, or an option of the command. `text`: what was typed there, where the config's own type
    decides what it means. `is_secret`: it came from a variable such as `API_TOKEN`."""

    name: str
    text: str | None = None
    is_secret: bool = False


@dataclass
class Places:
    """Places by dotted key; "" is the config itself. `with places:` puts the place before each mistake that names a
    key."""

    by_key: dict[str, Place] = field(default_factory=dict)

    def record(self, key: str, place: Place) -> None:
        """`key` was written here, and nothing of what stood below it before is left."""
        self.forget(key)
        self.by_key[key] = place

    def forget(self, key: str) -> None:
        """`key`, and all below it, is not there any more."""
        for known in [known for known in self.by_key if f"{known}.".startswith(f"{key}.")]:
            del self.by_key[known]

    def text(self, key: str) -> str | None:
        """What was typed for this very key."""
        place = self.by_key.get(key)
        return place.text if place else None

    def located(self, mistake: str) -> str:
        """The mistake behind the place of its key, or of the innermost section around it."""
        key = mistake.split(": ")[0]
        below = next((known for known in self.by_key if known.startswith(f"{key}.")), None)
        if key not in self.by_key and below is not None:  # of a section that is there by what was set in it
            key = below
        is_of_config = key.split(".")[0] in self.by_key or mistake.startswith(f"{key}: missing")
        while is_of_config and key not in self.by_key and key:
            key = key.rpartition(".")[0]
        return f"{self.by_key[key].name}: {mistake}" if key in self.by_key else mistake

    def is_secret(self, key: str) -> bool:
        place = self.by_key.get(key)
        return any(map(is_secret, key.split("."))) or (place is not None and place.is_secret)

    def __enter__(self) -> "Places":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, ConfigError):
            raise ConfigError(*map(self.located, error.mistakes)) from error
