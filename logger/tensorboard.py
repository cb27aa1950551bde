"""The one file that knows TensorBoard."""

import json
import logging
import re
import sys
import threading
import types
from pathlib import Path
from textwrap import indent
from typing import Any

import torch
from torch import Tensor, nn

# TensorBoard's own switch: else it imports TensorFlow where that is installed, for seconds, and uses none of it.
sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("notf"))

from tensorboard.compat.proto.summary_pb2 import Summary  # noqa: E402
from torch.utils.tensorboard import SummaryWriter  # noqa: E402
from torch.utils.tensorboard.summary import hparams  # noqa: E402

from logger.pictures import matrix_picture  # noqa: E402
from logger.tables import VALID, is_learned  # noqa: E402
from logger.writers import Picture, Writer  # noqa: E402
from utils.shards import own_part  # noqa: E402

log = logging.getLogger(__name__)


class TensorBoardWriter(Writer):
    """Scalars as `loss/train` and `loss/valid`, side by side; in the tab Custom Scalars, each pair shares a chart.

    `after_epoch`, `after_step`: where a resumed run goes on from; what was written after that step is not shown.
    """

    def __init__(self, folder: Path, config: dict[str, Any], after_epoch: int = 0, after_step: int = 0):
        self._writer = SummaryWriter(str(folder), purge_step=after_step + 1 if after_step else None)
        self._excepthook, threading.excepthook = threading.excepthook, self._without_traceback
        self._config = config
        self._warned_of: set[str] = set()
        self._has_layout = after_epoch > 0
        self.text("config", json.dumps(config, indent=2, ensure_ascii=False), after_step)

    def epoch(self, values: dict[str, float]) -> None:
        if not self._has_layout:
            self._has_layout = True
            pairs = {  # of a chart, TensorBoard takes regular expressions
                name: ["Multiline", [f"{re.escape(_tag(part))}$" for part in (name, VALID + name)]]
                for name in values
                if VALID + name in values
            }
            self._writer.add_custom_scalars({"train and valid": pairs})
        scalars = {_tag(name): value for name, value in values.items() if name not in ("epoch", "step")}
        self._scalars(scalars, int(values["step"]))

    def step(self, values: dict[str, float], step: int) -> None:
        self._scalars({f"step/{name}": value for name, value in values.items()}, step)

    def _scalars(self, values: dict[str, float], step: int) -> None:
        """All in one event: five times as fast as a call of `add_scalar` for each."""
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        self._writer._get_file_writer().add_summary(summary, step)

    def matrix(self, tag: str, matrix: Tensor, step: int) -> None:
        self._writer.add_image(tag, matrix_picture(matrix), step)

    def picture(self, tag: str, picture: Picture, step: int) -> None:
        self._writer.add_image(tag, picture() if callable(picture) else picture, step)

    def text(self, tag: str, text: str, step: int) -> None:
        self._writer.add_text(tag, indent(text, "    ", lambda line: True), step)  # as code, not markup

    def histograms(self, modules: dict[str, nn.Module], step: int) -> None:
        for key, module in modules.items():
            for name, parameter in module.named_parameters(prefix=key):
                values = own_part(parameter.detach())
                if torch.isfinite(values).all():
                    self._writer.add_histogram(name, values, step)
                elif name not in self._warned_of:
                    self._warned_of.add(name)
                    log.warning("%s is not finite: no histogram of it.", name)

    def flush(self) -> None:
        self._writer.flush()

    def close(self, values: dict[str, float]) -> None:
        threading.excepthook = self._excepthook
        if values:  # in this run's own event file: SummaryWriter.add_hparams would open a second run
            final = {f"final/{name}": value for name, value in values.items() if is_learned(name)}
            for summary in hparams(_flat(self._config), final):
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
