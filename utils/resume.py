"""Where a run comes from: a config, or an earlier start of it; and what of a config may change in between."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from utils.config import Config, changed_keys, load_config, override
from utils.errors import ConfigError
from utils.paths import shown_path
from utils.run_dir import CONFIG, is_run_dir


def read_source(
    config_path: str | None, resume_path: str | None, assignments: Sequence[str]
) -> tuple[Config, dict[str, Any] | None, Path | None]:
    """The config with its overrides; and, to resume, the checkpoint and its run directory."""
    if config_path is not None:
        return override(load_config(config_path), assignments), None, None
    from utils.checkpoint import CheckpointError, find_checkpoint, load_training_checkpoint

    assert resume_path is not None, "argparse asks for one of them"
    path = find_checkpoint(resume_path)
    checkpoint = load_training_checkpoint(path)
    if not is_run_dir(path.parent):
        raise CheckpointError(
            f"{shown_path(path)}: lies in no run directory, so there is no run to continue. "
            "To start a new one from its weights: python train.py -c CONFIG --init-from FILE."
        )
    return override(saved_config(path, checkpoint), assignments), checkpoint, path.parent


def saved_config(checkpoint_path: Path, checkpoint: dict[str, Any]) -> Config:
    """The config beside a checkpoint, or, for a file that was carried elsewhere, the one inside it."""
    folder = checkpoint_path.parent
    return load_config(folder / CONFIG) if is_run_dir(folder) else checkpoint["config"]


# What a resumed run may change. Everything else decides what is computed, and would make it another run.
MAY_CHANGE_ON_RESUME = (
    "n_gpu",
    "trainer.epochs",
    "trainer.save_period",
    "trainer.keep_last",
    "trainer.monitor",
    "trainer.min_delta",
    "trainer.early_stop",
    "trainer.tensorboard",
    "trainer.log_steps",
    "trainer.histogram_period",
    "data_loader.num_workers",
    "data_loader.pin_memory",
    "data_loader.prefetch_factor",
    "data_loader.persistent_workers",
    "data_loader.timeout",
    "data_loader.multiprocessing_context",
    "dataset.args.data_dir",
)


def refuse_changes(old: Config, new: Config) -> None:
    """Name each key that differs and that a resumed run cannot follow.

    Raises:
        ConfigError: there is one.
    """
    may_change = set(MAY_CHANGE_ON_RESUME)
    if (new["lr_scheduler"] or {}).get("type") == "ReduceLROnPlateau":
        may_change -= {"trainer.monitor"}  # it goes on comparing with the best of the old value
    refused = [key for key in changed_keys(old, new) if key not in may_change]
    if refused:
        raise ConfigError(
            *(
                f"{key}: cannot change when a run is resumed: what its old value led to is in the checkpoint."
                for key in refused
            ),
            f"These can: {', '.join(MAY_CHANGE_ON_RESUME)}. "
            "For a new run from these weights: python train.py -c CONFIG --init-from CHECKPOINT.",
        )
