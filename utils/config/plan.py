"""A whole config, checked: every name looked up, every argument bound, every mistake reported at once."""

import inspect
from dataclasses import dataclass, replace
from typing import Any

from utils.config.binding import Binder, Component
from utils.config.frame import frame_mistakes, in_new_words, with_defaults
from utils.config.loading import Config
from utils.config.lookup import KINDS, Kind
from utils.config.options import LoaderOptions, Patterns, RunOptions, TopOptions
from utils.config.places import Places
from utils.config.schemas import misfit, schema_of
from utils.config.signatures import parameters
from utils.errors import ConfigError, shown

RESERVED = ("epoch", "step", "loss", "lr", "grad_norm", "skipped", "seconds", "items_per_second", "data_wait_share")
NAMED = ("model", "dataset", "loss", "optimizer", "lr_scheduler", "trainer", "parallel")
_NO_KIND = Kind("nothing", lambda found: False)


@dataclass(frozen=True)
class Plan:
    """The parts of a run, ready to be built; `config` is resolved: it says what was left to defaults, too, and has no
    secrets in it: it is there to be written."""

    config: Config
    top: TopOptions
    run_options: RunOptions
    loader_options: LoaderOptions
    model: Component
    dataset: Component
    loss: Component
    metrics: dict[str, Component]
    optimizer: Component
    lr_scheduler: Component
    trainer: Component
    parallel: Component


def make_plan(config: Config, places: Places | None = None) -> Plan:
    """Check a config against the code. `places`: where it was written.

    Raises:
        ConfigError: with all that is wrong.
    """
    binder = Binder(places or Places())
    mistakes = binder.mistakes
    mistakes += frame_mistakes(config)
    config = with_defaults(config)
    top = binder.options("", {name: config[name] for name in ("name", "seed", "n_gpu") if name in config}, TopOptions)
    found = {name: binder.section(name, config[name], name) for name in NAMED if config.get(name) is not None}
    metrics = _bind_metrics(config["metrics"], binder)
    loader_options = _bind_data_loader(config.get("data_loader"), binder)
    found["optimizer"] = _bind_groups(found.get("optimizer"), binder)
    _check_what_the_trainer_takes(config, found.get("trainer"), mistakes)
    _check_nested_plateau(found.get("lr_scheduler"), mistakes)
    _check_loss(found.get("loss"), mistakes)
    _check_weights(found.get("model"), mistakes)
    if mistakes:
        raise ConfigError(*map(in_new_words, dict.fromkeys(mistakes)))
    parts = {name: found.get(name) or _nothing(name) for name in NAMED}
    run_options = parts["trainer"].extras
    return Plan(binder.resolved(config), top, run_options, loader_options, metrics=metrics, **parts)


def _nothing(name: str) -> Component:
    """What stands for a section that is left out: it builds None."""
    options = KINDS[name].extras
    return Component(name, lambda: None, {}, _NO_KIND, options() if options else None)


def _bind_metrics(section: Any, binder: Binder) -> dict[str, Component]:
    if not isinstance(section, list):
        binder.mistakes.append(f"metrics: found {shown(section)}. Write a list of names or sections.")
        return {}
    metrics: dict[str, Component] = {}
    for i, entry in enumerate(section):
        component = binder.section(f"metrics.{i}", entry, "metric")
        if component is None or component.extras is None:
            continue
        name = component.target.__name__ if component.extras.name is None else component.extras.name
        if not name or name in metrics or _is_reserved(name):
            binder.mistakes.append(
                f'metrics.{i}: the name {name!r} is taken. Give it another one: {{"type": ..., "name": "..."}}.'
            )
        if not name.isprintable():
            binder.mistakes.append(f"metrics.{i}.name: {name!r} has control characters. Leave them out.")
        metrics[name] = component
    return metrics


def _bind_data_loader(section: Any, binder: Binder) -> Any:
    if isinstance(section, dict):
        return binder.options("data_loader", section, LoaderOptions)
    if section is not None:
        binder.mistakes.append(f"data_loader: found {shown(section)}. Write an object: {{...}}.")
    return None


def _bind_groups(optimizer: Component | None, binder: Binder) -> Component | None:
    """The optimizer, with the arguments of each of its groups bound to it as its own are."""
    groups = []
    for i, group in enumerate((optimizer and optimizer.extras and optimizer.extras.groups) or []):
        assert optimizer is not None
        where, patterns = f"optimizer.groups.{i}", group.get("params")
        if mistake := misfit(schema_of(Patterns), patterns):
            binder.mistakes.append(f"{where}.params: {mistake if 'params' in group else 'missing. Write patterns.'}")
        args = {name: value for name, value in group.items() if name != "params"}
        bound = binder.arguments(where, optimizer.target, args, optimizer.kind, may_lack=True)
        groups.append({"params": patterns} | bound)
        if not binder.mistakes:
            _try_group(replace(optimizer, section=where, args=optimizer.args | bound), binder.mistakes)
    return replace(optimizer, extras=replace(optimizer.extras, groups=groups)) if optimizer and groups else optimizer


def _try_group(optimizer: Component, mistakes: list[str]) -> None:
    """torch looks at the arguments of an optimizer, and not at those of its groups."""
    import torch

    try:
        optimizer.build(params=[torch.nn.Parameter(torch.zeros(2, 2))])
    except ConfigError as error:
        mistakes += [mistake.replace(".args: ", ": ", 1) for mistake in error.mistakes]


def _check_what_the_trainer_takes(config: Config, trainer: Component | None, mistakes: list[str]) -> None:
    if trainer is None:
        return
    taken, found = parameters(trainer.target), [name for name in NAMED if config.get(name) is not None]
    for section, argument in (("loss", "loss_fn"), ("optimizer", "optimizer"), ("lr_scheduler", "lr_scheduler")):
        name = trainer.target.__name__
        if section in found and argument not in taken:
            mistakes.append(f"{section}: {name} takes no {argument}. Leave this section out.")
        is_required = argument in taken and taken[argument].default is inspect.Parameter.empty
        if section not in found and section != "lr_scheduler" and is_required:
            mistakes.append(f"{section}: missing; {name} needs one.")
    if "lr_scheduler" in found and "optimizer" not in found:
        mistakes.append("lr_scheduler: there is no optimizer to schedule.")


def _is_reserved(name: str) -> bool:
    """Whether an epoch has a value of this name already."""
    return name in RESERVED or name.startswith(("val_", "lr_"))


def _check_loss(loss: Component | None, mistakes: list[str]) -> None:
    reduction = loss.args.get("reduction", "mean") if loss else "mean"
    if reduction != "mean":
        mistakes.append(
            f"loss.args.reduction: found {shown(reduction)}. Write 'mean': an epoch's mean weights a batch by its size."
        )


def _check_weights(model: Component | None, mistakes: list[str]) -> None:
    """A builder would fetch weights each time that it is called: to go on with a run and to score one, too."""
    if model and model.target.__module__.startswith("torchvision.") and model.args.get("weights") is not None:
        mistakes.append('model.args.weights: are fetched once, if they stand beside "args": "weights": NAME.')


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
