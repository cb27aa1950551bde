"""A whole config, checked: every name looked up, every argument bound, every mistake reported at once."""

from dataclasses import MISSING, dataclass, fields
from typing import Any

from utils.binding import Component, bind_section, check_keys, parameters
from utils.config import Config
from utils.errors import ConfigError
from utils.lookup import Kind
from utils.options import LoaderOptions, RunOptions
from utils.run_dir import check_name
from utils.secrets import missing_secrets, redacted

REQUIRED = ("name", "model", "dataset", "data_loader", "trainer")
DEFAULTS: Config = {"seed": 0, "n_gpu": 1, "loss": None, "metrics": [], "optimizer": None, "lr_scheduler": None}
# Where the victoresque template's keys have gone.
RENAMED = {
    "arch": "It is named 'model' here.",
    "verbosity": "There is no such setting here; the log file has everything.",
    "trainer.verbosity": "There is no such setting here; the log file has everything.",
    "trainer.len_epoch": "It is named 'epoch_steps' here.",
    "trainer.save_freq": "It is named 'save_period' here.",
    "data_loader.type": "What to load is named in the section 'dataset' here; this one says how.",
    "data_loader.args": "The arguments stand directly in 'data_loader' here; those of the data set in 'dataset'.",
}
RESERVED = ("epoch", "step", "loss", "lr", "grad_norm", "seconds", "items_per_second", "data_wait_share")
_NOTHING = Component("", lambda: None, {}, Kind("nothing", lambda found: False), {})


@dataclass(frozen=True)
class Plan:
    """The parts of a run, ready to be built; `config` is resolved: it says what was left to defaults, too, and has no
    secrets in it: it is there to be written."""

    config: Config
    run_options: RunOptions
    model: Component
    dataset: Component
    loader_options: LoaderOptions
    loss: Component
    metrics: dict[str, Component]
    optimizer: Component
    lr_scheduler: Component
    trainer: Component


def make_plan(config: Config) -> Plan:
    """Check a config against the code.

    Raises:
        ConfigError: with all that is wrong.
    """
    mistakes: list[str] = []
    _check_top_level(config, mistakes)
    config = with_defaults(config)
    found: dict[str, Any] = {}
    for name in ("model", "dataset", "loss", "optimizer", "lr_scheduler"):
        if config.get(name) is not None:
            found[name] = bind_section(name, config[name], name, mistakes)
    found["metrics"] = _bind_metrics(config["metrics"], mistakes)
    found["loader_options"] = _bind_data_loader(config.get("data_loader"), mistakes)
    found["trainer"], options = _bind_trainer(config.get("trainer"), mistakes)
    if isinstance(found["trainer"], Component):
        _check_what_the_trainer_takes(found, mistakes)
    _check_lr_scheduler(found.get("lr_scheduler"), mistakes)
    _check_loss(found.get("loss"), mistakes)
    if mistakes:
        raise ConfigError(*_in_new_words(mistakes))
    return Plan(
        config=redacted(config),
        run_options=options,
        **({"loss": _NOTHING, "optimizer": _NOTHING, "lr_scheduler": _NOTHING} | found),
    )


def with_defaults(config: Config) -> Config:
    """A copy that says what is left to defaults, too. Looks nothing up, so any config may come."""
    config = DEFAULTS | config
    trainer = {"type": "Trainer", "args": {}} | _defaults_of(RunOptions)
    for name, defaults in (("trainer", trainer), ("data_loader", _defaults_of(LoaderOptions))):
        if isinstance(config.get(name), dict):
            config[name] = defaults | config[name]
    return config


def _defaults_of(options: Any) -> dict[str, Any]:
    return {field.name: field.default for field in fields(options) if field.default is not MISSING}


def _check_top_level(config: Config, mistakes: list[str]) -> None:
    check_keys("", config, (*REQUIRED, *DEFAULTS, "$schema"), mistakes)
    mistakes += [f"{name}: missing." for name in REQUIRED if name not in config]
    mistakes += missing_secrets(config)
    if "name" in config and (mistake := check_name(config["name"])):
        mistakes.append(mistake)
    for name in ("seed", "n_gpu"):
        value = config.get(name, 0)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            mistakes.append(f"{name}: found {value!r}. Write a whole number of at least 0.")


def _bind_metrics(section: Any, mistakes: list[str]) -> dict[str, Component]:
    if not isinstance(section, list):
        mistakes.append(f"metrics: found {section!r}. Write a list of names or sections.")
        return {}
    metrics: dict[str, Component] = {}
    for i, entry in enumerate(section):
        component = bind_section(f"metrics.{i}", entry, "metric", mistakes)
        if component is None:
            continue
        name = component.extra.get("name", component.target.__name__)
        if not isinstance(name, str) or name in metrics or _is_reserved(name):
            mistakes.append(
                f'metrics.{i}: the name {name!r} is taken. Give it another one: {{"type": ..., "name": "..."}}.'
            )
        metrics[str(name)] = component
    return metrics


def _bind_data_loader(section: Any, mistakes: list[str]) -> Any:
    if section is not None and not isinstance(section, dict):
        mistakes.append(f"data_loader: found {section!r}. Write an object: {{...}}.")
    if not isinstance(section, dict):
        return None
    options = {}
    for key, value in section.items():
        is_nested = key in ("sampler", "batch_sampler") and value is not None
        component = bind_section(f"data_loader.{key}", value, "sampler", mistakes) if is_nested else None
        options[key] = component.build if component else value
    return _options("data_loader", options, LoaderOptions, mistakes)


def _bind_trainer(section: Any, mistakes: list[str]) -> tuple[Component | None, Any]:
    """The trainer's class with its `args`, and the run's options from the section's other keys."""
    if not isinstance(section, dict):
        if section is not None:
            mistakes.append(f'trainer: found {section!r}. Write {{"type": NAME, "args": {{...}}, "epochs": N, ...}}.')
        return None, None
    named = {key: section[key] for key in ("type", "args") if key in section}
    others = {key: value for key, value in section.items() if key not in named}
    options = _options("trainer", others, RunOptions, mistakes)
    return bind_section("trainer", {"type": "Trainer"} | named, "trainer", mistakes), options


def _options(where: str, values: dict[str, Any], target: Any, mistakes: list[str]) -> Any:
    """A dataclass of options from a section's keys; None where a required one is missing or a value cannot be."""
    allowed = parameters(target)
    check_keys(where, values, tuple(allowed), mistakes)
    missing = [name for name, option in allowed.items() if option.default is option.empty and name not in values]
    mistakes.extend(f"{where}.{name}: missing." for name in missing)
    try:
        return None if missing else target(**{name: value for name, value in values.items() if name in allowed})
    except ConfigError as error:
        mistakes.extend(error.mistakes)
        return None


def _check_what_the_trainer_takes(found: dict[str, Any], mistakes: list[str]) -> None:
    taken = parameters(found["trainer"].target)
    for section, argument in (("loss", "loss_fn"), ("optimizer", "optimizer"), ("lr_scheduler", "lr_scheduler")):
        name = found["trainer"].target.__name__
        if section in found and argument not in taken:
            mistakes.append(f"{section}: {name} takes no {argument}. Leave this section out.")
        if section not in found and section != "lr_scheduler" and argument in taken:
            mistakes.append(f"{section}: missing; {name} needs one.")
    if "lr_scheduler" in found and "optimizer" not in found:
        mistakes.append("lr_scheduler: there is no optimizer to schedule.")


def _is_reserved(name: str) -> bool:
    """Whether an epoch has a value of this name already."""
    return name in RESERVED or name.startswith(("val_", "lr_"))


def _check_loss(loss: Any, mistakes: list[str]) -> None:
    reduction = loss.args.get("reduction", "mean") if isinstance(loss, Component) else "mean"
    if reduction != "mean":
        mistakes.append(
            f"loss.args.reduction: found {reduction!r}. Write 'mean': an epoch's mean weights each batch by its size."
        )


def _check_lr_scheduler(scheduler: Any, mistakes: list[str]) -> None:
    if isinstance(scheduler, Component):
        interval = scheduler.extra.get("interval", "epoch")
        if interval not in ("epoch", "step"):
            mistakes.append(f"lr_scheduler.interval: found {interval!r}. Choices: epoch, step.")
    _check_nested_plateau(scheduler, mistakes)


def _check_nested_plateau(scheduler: Any, mistakes: list[str], is_nested: bool = False) -> None:
    if not isinstance(scheduler, Component):
        return
    if is_nested and scheduler.target.__name__ == "ReduceLROnPlateau":
        mistakes.append(
            f"{scheduler.section}: ReduceLROnPlateau cannot be chained: it must be told the monitored value."
        )
    for value in scheduler.args.values():
        for item in value if isinstance(value, list) else [value]:
            _check_nested_plateau(item, mistakes, is_nested=True)


def _in_new_words(mistakes: list[str]) -> list[str]:
    """Replace the closest match by what became of a key of the victoresque template."""
    return [
        f"{where}: {RENAMED[where]}" if (where := mistake.split(": ")[0]) in RENAMED else mistake
        for mistake in mistakes
    ]
