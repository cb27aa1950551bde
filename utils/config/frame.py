"""The top of a config: which sections there are. Looks no name up, so it needs no torch and takes no time."""

from dataclasses import MISSING, fields
from functools import cache
from typing import Any

from utils.config.binding import Binder
from utils.config.loading import Config
from utils.config.lookup import KINDS
from utils.config.options import LoaderOptions, RunOptions, TopOptions
from utils.config.places import Places
from utils.errors import ConfigError, closest, shown
from utils.secrets import missing_secrets

REQUIRED = ("name", "model", "dataset", "data_loader", "trainer")
SECTIONS = {
    "model": "what is trained",
    "dataset": "the samples, split by split",
    "data_loader": "how samples become batches",
    "loss": "what is made smaller",
    "metrics": "what is measured",
    "optimizer": "how the weights move",
    "lr_scheduler": "how the learning rate moves",
    "trainer": "the step, and the run around it",
    "parallel": "how several processes share the run",
}
DEFAULTS: Config = {
    "seed": 0, "n_gpu": 1, "loss": None, "metrics": [], "optimizer": None, "lr_scheduler": None, "parallel": None,
}  # fmt: skip
LATER = "What the sections name is looked up when this is mended."
# Where the victoresque template's keys have gone.
RENAMED = {
    "arch": "is named 'model' here.",
    "verbosity": "there is no such setting here; the log file has everything.",
    "trainer.verbosity": "there is no such setting here; the log file has everything.",
    "trainer.len_epoch": "is named 'epoch_steps' here.",
    "trainer.save_freq": "is named 'save_period' here.",
    "data_loader.type": "what to load is named in the section 'dataset' here; this one says how.",
    "data_loader.args": "the arguments stand directly in 'data_loader' here; those of the data set in 'dataset'.",
}


def check_frame(config: Config, places: Places) -> None:
    """Refuse a config whose top is wrong, before anything is imported; what is in its sections is for `make_plan`.

    Raises:
        ConfigError: with all that is wrong there, and in the settings that name nothing.
    """
    if mistakes := frame_mistakes(config):
        binder = Binder(places)
        for section, options in (("", TopOptions), ("trainer", RunOptions), ("data_loader", LoaderOptions)):
            values = config if section == "" else config.get(section)
            names = {item.name for item in fields(options) if section == "" or item.metadata["kind"]}
            if isinstance(values, dict):
                plain = {key: value for key, value in values.items() if (key in names) == (section == "")}
                binder.options(section, plain, options, ("type", "args") if section == "trainer" else ())
        raise ConfigError(*dict.fromkeys(map(in_new_words, [*mistakes, *binder.mistakes])), LATER)


def frame_mistakes(config: Config) -> list[str]:
    mistakes = []
    for key in config:
        if key not in (*REQUIRED, *DEFAULTS, "$schema"):
            mistakes.append(f"{key}: unknown key. {closest(key, (*REQUIRED, *DEFAULTS, 'extends'))}")
    told = [mistake.rpartition(" Closest match: ")[2].rstrip(".") for mistake in mistakes]
    missing = [key for key in REQUIRED if key not in config or (key != "name" and config[key] is None)]
    mistakes += [f"{key}: missing." for key in missing if key not in told and "extends" not in told]
    if not isinstance(config.get("$schema", ""), str):
        mistakes.append(f"$schema: found {shown(config['$schema'])}. Write the schema's path, for your editor.")
    return mistakes + missing_secrets(config)


def in_new_words(mistake: str) -> str:
    """Replace the closest match by what became of a key of the victoresque template."""
    where = mistake.split(": ")[0]
    return f"{where}: {RENAMED[where]}" if where in RENAMED else mistake


def with_defaults(config: Config) -> Config:
    """A copy that says what is left to defaults, too. Looks nothing up, so any config may come."""
    config = {key: value for key, value in (DEFAULTS | config).items() if key != "$schema"}
    defaults = {name: _defaults_of(kind.extras) for name, kind in KINDS.items() if kind.extras}
    for name in ("model", "optimizer", "lr_scheduler", "trainer"):
        kind_type = KINDS[name].default_type
        defaults[name] = defaults[name] | {"args": {}} | ({"type": kind_type} if kind_type else {})
    for name, own in (defaults | {"data_loader": _defaults_of(LoaderOptions)}).items():
        if isinstance(config.get(name), dict):
            config[name] = config[name] | {key: value for key, value in own.items() if key not in config[name]}
    return config


@cache
def _defaults_of(options: Any) -> dict[str, Any]:
    return {item.name: item.default for item in fields(options) if item.default is not MISSING}
