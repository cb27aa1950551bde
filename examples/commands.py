"""The commands of the project for scripts that compare runs: what `python train.py` and `python test.py` do."""

import argparse
import io
import json
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path

import test
import train


def trained(config: str, folder: Path, settings: Iterable[str] = (), init_from: Path | None = None) -> Path:
    """Start a run in a folder of its own, without a word on the screen; its run directory.

    `settings`: as behind `--set`. `init_from`: a run, as behind `--init-from`.
    """
    options = ["--init-from", str(init_from)] if init_from else []
    own = [f"trainer.save_dir={folder}", "trainer.tensorboard=false", *settings]
    with redirect_stdout(io.StringIO()):
        train.main(["-c", config, *options, "--set", *own])
    (run_dir,) = folder.glob("*/*")
    return run_dir


def parser(description: str | None) -> argparse.ArgumentParser:
    """Of a script's arguments; its docstring is the help as it stands."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def png(text: str) -> Path:
    """An argument that is a picture to be written: looked at before the work, and not after it."""
    path = Path(text)
    if path.suffix != ".png" or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(
            f"found {text!r}. Write a file that ends with .png, in a folder that is there."
        )
    return path


def scored(run_dir: Path) -> dict[str, float]:
    """The metrics of a run on its test set."""
    output = io.StringIO()
    with redirect_stdout(output):
        test.main(["-r", str(run_dir)])
    return json.loads(output.getvalue().splitlines()[-1])
