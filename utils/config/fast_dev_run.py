"""A whole run in small, to find what fails at its end in a minute: a checkpoint, a writer, a schedule, a metric."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

ASSIGNMENTS = (  # in the form of --set
    "trainer.epochs=1",
    "trainer.epoch_steps=1",
    "trainer.valid_steps=1",
    "trainer.log_steps=1",
    "trainer.save_period=1",
    "trainer.save_steps=1",
    "trainer.on_save_error=stop",
)


@contextmanager
def fast_dev_run(is_asked: bool = True) -> Iterator[list[str]]:
    """The assignments that make the block's run one batch of each phase, with all that a real run writes, in a folder
    that is deleted after the block; none where that is not asked for."""
    if not is_asked:
        yield []
        return
    with TemporaryDirectory(prefix="fast_dev_run_", ignore_cleanup_errors=True) as folder:
        yield [*ASSIGNMENTS, f"trainer.save_dir={json.dumps(folder)}"]
    print("Fast dev run: every part works. What it wrote is deleted.")
