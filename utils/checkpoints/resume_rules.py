"""What may change in the config of a run that is resumed. Every other key decides what is computed."""

from contextlib import suppress

from utils.config.frame import with_defaults
from utils.config.loading import Config, changed_keys
from utils.config.lookup import KINDS, look_up
from utils.config.signatures import parameters
from utils.errors import ConfigError
from utils.secrets import REDACTED, redacted, redacted_text

WHERE_A_RUN_IS = ("name", "trainer.save_dir")  # decides nothing that is computed
MAY_CHANGE_ON_RESUME = (
    "n_gpu",
    "trainer.epochs",
    "trainer.save_period",
    "trainer.save_steps",
    "trainer.save_minutes",
    "trainer.on_save_error",
    "trainer.on_non_finite",
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
    "parallel",
    "dataset.args.data_dir",
    "trainer.args.micro_batch_size",
    "trainer.args.activation_checkpointing",
    "trainer.args.compile",
)


# What the default trainer took before there was a second one with these options.
_TRAINERS = ("Trainer", "FullTrainer")
_OF_FULL_TRAINER = {"micro_batch_size", "amp", "ema_decay", "compile", "activation_checkpointing"}


def in_this_version(config: Config) -> Config:
    """The config of a run of an earlier version, as this version writes it."""
    section = config.get("trainer")
    if not isinstance(section, dict) or section.get("type", "Trainer") != "Trainer":
        return config
    args = section.get("args")
    if not isinstance(args, dict) or not (found := _OF_FULL_TRAINER & args.keys()):
        return config
    with suppress(ConfigError):
        if not found & parameters(look_up(KINDS["trainer"], "Trainer")).keys():  # a Trainer of the person's may have it
            return config | {"trainer": section | {"type": "FullTrainer"}}
    return config


def refused_keys(old: Config, new: Config) -> list[str]:
    """The keys that differ and that a resumed run cannot follow."""
    may_change = {*WHERE_A_RUN_IS, *MAY_CHANGE_ON_RESUME}
    if (new["lr_scheduler"] or {}).get("type") == "ReduceLROnPlateau":
        may_change -= {"trainer.monitor"}  # it continues to compare with the best of the old value

    old = in_this_version(old)
    types = {(config.get("trainer") or {}).get("type", "Trainer") for config in (old, new)}
    if types <= {*_TRAINERS}:
        may_change |= {"trainer.type"}  # they compute the same but for their options

    def refused(saved: Config) -> list[str]:
        changed = changed_keys(with_defaults(saved), new)
        return [redacted_text(key) for key in changed if key not in may_change and not key.startswith("parallel.")]

    keys = refused(old)
    return refused(redacted(old)) if keys and REDACTED in str(new) else keys  # redacting thousands of configs is slow


def refuse_changes(old: Config, new: Config) -> None:
    """Name each key that differs and that a resumed run cannot follow.

    Raises:
        ConfigError: there is one.
    """
    if refused := refused_keys(old, new):
        raise ConfigError(
            *(
                f"{key}: cannot change when a run is resumed: what its old value led to is in the checkpoint."
                for key in refused
            ),
            f"These can: {', '.join(MAY_CHANGE_ON_RESUME)}. "
            "For a new run from these weights: python train.py -c CONFIG --init-from CHECKPOINT.",
        )
