"""The one file that knows TensorBoard."""

import json
import logging
import re
import sys
import threading
import time
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from textwrap import indent
from typing import Any

import torch
from torch import Tensor, nn

# TensorBoard's own switch: else it imports TensorFlow where that is installed, for seconds, and uses none of it.
sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("notf"))

from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # noqa: E402
from tensorboard.compat.proto.summary_pb2 import Summary  # noqa: E402
from tensorboard.summary.writer import event_file_writer  # noqa: E402
from torch.utils.tensorboard import SummaryWriter, writer  # noqa: E402
from torch.utils.tensorboard.summary import custom_scalars, histogram, hparams  # noqa: E402
from torch.utils.tensorboard.summary import text as text_summary  # noqa: E402

from logger.pictures import matrix_picture  # noqa: E402
from logger.tables import VALID, is_learned  # noqa: E402
from logger.writers import Picture, Writer  # noqa: E402
from utils.distributed.shards import own_part  # noqa: E402

log = logging.getLogger(__name__)
_EVENT_FILE = re.compile(r"events\.out\.tfevents\.(\d{10})\.")


class _ClockAfter:
    """The time, moved forward so that it is later than all event files in a folder. TensorBoard reads the files in the
    order of their names, which begin with the time; and the machine's clock may have gone back since."""

    def __init__(self, folder: Path):
        files = [(file, match) for file in folder.glob("events*") if (match := _EVENT_FILE.match(file.name))]
        last = max((max(int(match[1]) + 1, file.stat().st_mtime) for file, match in files), default=0)
        self._ahead_seconds = max(0, last - time.time())

    def time(self) -> float:
        return time.time() + self._ahead_seconds


class TensorBoardWriter(Writer):
    """Scalars as `loss/train` and `loss/valid`, side by side; in the tab Custom Scalars, each pair shares a chart.

    `after_epoch`, `after_step`: where a resumed run goes on from; what was written after that step is not shown.
    """

    def __init__(self, folder: Path, config: dict[str, Any], after_epoch: int = 0, after_step: int = 0):
        clock = _ClockAfter(folder)
        for module in (event_file_writer, writer):
            setattr(module, "time", clock)  # noqa: B010 - they call time.time() for the file's name and for events
        self._writer = SummaryWriter(str(folder))
        first_step = after_step + 1 if after_step else 0
        start = Event(step=first_step, session_log=SessionLog(status=SessionLog.START))
        for _ in range(2):  # TensorBoard drops nothing at the first start that it reads of
            self._writer._get_file_writer().add_event(start)
        self._excepthook, threading.excepthook = threading.excepthook, self._without_traceback
        self._config = config
        self._warned_of: set[str] = set()
        self._has_layout = after_epoch > 0
        self.text("config", json.dumps(config, indent=2, ensure_ascii=False), first_step)

    def epoch(self, values: dict[str, float]) -> None:
        if not self._has_layout:
            self._has_layout = True
            pairs = {  # of a chart, TensorBoard takes regular expressions
                name: ["Multiline", [f"{re.escape(_tag(part))}$" for part in (name, VALID + name)]]
                for name in values
                if VALID + name in values
            }
            self._add("the layout of the charts", None, custom_scalars, {"train and valid": pairs})
        scalars = {_tag(name): value for name, value in values.items() if name not in ("epoch", "step")}
        self._scalars(scalars, int(values["step"]))

    def step(self, values: dict[str, float], step: int) -> None:
        self._scalars({f"step/{name}": value for name, value in values.items()}, step)

    def _scalars(self, values: dict[str, float], step: int) -> None:
        """All in one event: five times as fast as a call of `add_scalar` for each."""
        found = (self._made(tag, partial(Summary.Value, tag=tag, simple_value=value)) for tag, value in values.items())
        summary = Summary(value=[value for value in found if value is not None])
        self._writer._get_file_writer().add_summary(summary, step)

    def matrix(self, tag: str, matrix: Tensor, step: int) -> None:
        self.picture(tag, partial(matrix_picture, matrix), step)

    def picture(self, tag: str, picture: Picture, step: int) -> None:
        drawn = self._made(tag, picture) if callable(picture) else picture
        if drawn is not None:
            self._writer.add_image(tag, drawn, step)

    def text(self, tag: str, text: str, step: int) -> None:
        readable = text.encode(errors="replace").decode()
        self._add(tag, step, text_summary, tag, indent(readable, "    ", lambda line: True))  # as code, not markup

    def histograms(self, modules: dict[str, nn.Module], step: int) -> None:
        for key, module in modules.items():
            for name, parameter in module.named_parameters(prefix=key):
                self._add(f"the histogram of {name}", step, self._histogram, name, own_part(parameter.detach()))

    def _histogram(self, name: str, values: Tensor) -> Summary:
        if values.numel() == 0 or values.is_complex() or not torch.isfinite(values).all():
            what = "empty" if values.numel() == 0 else "complex" if values.is_complex() else "not finite"
            raise ValueError(f"the parameter is {what}")
        values = values.to(torch.promote_types(values.dtype, torch.float32))  # NumPy has no bfloat16
        return histogram(name, values, self._writer.default_bins)

    def _add(self, what: str, step: int | None, make: Callable[..., Summary], *arguments: Any) -> None:
        if (summary := self._made(what, make, *arguments)) is not None:
            self._writer._get_file_writer().add_summary(summary, step)

    def _made(self, what: str, make: Callable[..., Any], *arguments: Any) -> Any:
        """Return what `make` returns; None, with one warning, if it raises: the other values are still written."""
        try:
            return make(*arguments)
        except Exception as error:
            if what not in self._warned_of:
                self._warned_of.add(what)
                readable = what.encode(errors="backslashreplace").decode()
                log.warning("TensorBoard: %s is not written: %s: %s", readable, type(error).__name__, error)
            return None

    def flush(self) -> None:
        self._writer.flush()

    def close(self, values: dict[str, float]) -> None:
        threading.excepthook = self._excepthook
        if values:  # in this run's own event file: SummaryWriter.add_hparams would open a second run
            final = {f"final/{name}": value for name, value in values.items() if is_learned(name)}
            for summary in self._made("the table of hyperparameters", hparams, _flat(self._config), final) or ():
                self._writer._get_file_writer().add_summary(summary)
            self._scalars(final, int(values["step"]))
        self._writer.close()

    def _without_traceback(self, failure: threading.ExceptHookArgs) -> None:
        """SummaryWriter's thread prints a traceback when the disk refuses; the next call raises the same, too."""
        if not type(failure.thread).__module__.startswith("tensorboard."):
            self._excepthook(failure)


def _tag(name: str) -> str:
    if not is_learned(name):
        return f"run/{name}" if name != "lr" else "lr"
    return f"{name.removeprefix(VALID)}/valid" if name.startswith(VALID) else f"{name}/train"


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested values under dotted names, as TensorBoard's table of hyperparameters wants them."""
    if isinstance(value, dict):
        return {key: leaf for name, item in value.items() for key, leaf in _flat(item, f"{prefix}{name}.").items()}
    if isinstance(value, list):
        return {key: leaf for i, item in enumerate(value) for key, leaf in _flat(item, f"{prefix}{i}.").items()}
    return {prefix.rstrip("."): value if isinstance(value, (bool, int, float, str)) else str(value)}
