"""What surrounds the step: the parts that `train.py` builds for a run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch.utils.data import IterableDataset

from logger.metrics import Metrics
from utils.config.options import RunOptions
from utils.distributed.devices import Devices
from utils.errors import ConfigError


class Batches(Protocol):
    """The batches of a split, pass after pass; `utils.batches.loaders.Batches` is one. Several processes get a part of
    each: `samples` is how many are in this one's part of the last batch, `gradient_weight` what a mean over it weighs
    in the average over them."""

    samples: int
    gradient_weight: float

    @property
    def dataset(self) -> Any:
        """What the samples come from."""

    def steps_per_pass(self) -> int | None:
        """Batches in a pass; None where only the end tells (iterable data sets)."""

    def epoch(self, steps: int | None = None) -> Iterator[Any]:
        """The next `steps` batches, or one pass; of a split that does not train, the first ones each time. Between two
        batches it raises `Stopped` where a signal has asked for it."""

    def trial(self, is_last: bool = False) -> Any:
        """The first batch to try a step on, or the last one, where that is of another size; the position stays."""

    def first_samples(self, count: int) -> Any:
        """A batch of the first samples alone; None where that cannot be."""

    def advise(self, wait_seconds: float, seconds: float) -> None:
        """Say what would help where the steps of the last pass waited much for their batches."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


@dataclass(frozen=True)
class Run:
    """Everything around the step. `batches` has an entry for each split that has samples."""

    options: RunOptions
    batches: Mapping[str, Batches]
    metrics: Metrics = field(default_factory=Metrics)
    devices: Devices = field(default_factory=Devices)
    seed: int = 0

    def __post_init__(self) -> None:
        train = self.batches.get("train")
        if self.options.epoch_steps or train is None or isinstance(train.dataset, IterableDataset):
            return
        if train.steps_per_pass() is None:
            raise ConfigError(
                "trainer.epoch_steps: missing. The sampler of data_loader has no __len__, so a pass over the training "
                "set may never end. Write how many steps make an epoch, or give the sampler a __len__."
            )
