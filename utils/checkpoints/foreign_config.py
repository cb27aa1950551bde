"""What a config from inside a checkpoint may not decide: the file may come from a stranger."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from utils.checkpoints.checkpoint import CheckpointError
from utils.config.loading import Config
from utils.config.plan import Plan
from utils.config.signatures import parameters
from utils.errors import ConfigError

_OF_WORKERS = ("num_workers", "prefetch_factor", "persistent_workers", "timeout", "multiprocessing_context")
_FREE_BYTES = 1 << 26  # that a model may allocate beyond what the checkpoint holds
_MOST_SHOWN = 6
_LARGEST = 10**7  # whole number, and items of lists, in the arguments of a class: it may loop or allocate that often
_MOST_ITEMS = 10_000
_WITH_ARGS = ("model", "dataset", "metrics", "loss", "data_loader", "trainer")


def harmless(config: Config) -> Config:
    """The config without workers, compilation, several GPUs and parallel processes. `--set` can bring them back."""
    config = {key: value for key, value in config.items() if key != "parallel"}
    loader, trainer = config.get("data_loader"), config.get("trainer")
    if isinstance(loader, dict):
        kept = {key: value for key, value in loader.items() if key not in _OF_WORKERS}
        config["data_loader"] = kept | {"num_workers": 0}
    if isinstance(trainer, dict) and isinstance(trainer.get("args"), dict):
        args = {key: value for key, value in trainer["args"].items() if key != "compile"}
        config["trainer"] = trainer | {"args": args}
    if isinstance(config.get("n_gpu"), int):
        config["n_gpu"] = min(config["n_gpu"], 1)
    return config


def check_arguments(config: Config, given: Collection[str]) -> None:
    """Refuse numbers and lists with which a constructor would take all memory or time. `given`: keys behind `--set`.

    Raises:
        ConfigError: there are some that `--set` does not name.
    """
    found = [mistake for key in _WITH_ARGS for mistake in _too_large(config.get(key), key)]
    own = tuple(f"{key.strip()}{end}" for key in given for end in (".", ": "))
    if mistakes := [mistake for mistake in found if not mistake.startswith(own)]:
        raise ConfigError(*mistakes[:_MOST_SHOWN])


def _too_large(value: Any, where: str) -> Iterator[str]:
    if where.endswith("data_loader.batch_size"):
        return  # a data set with a length has no larger batch
    if isinstance(value, (dict, list)):
        if len(value) > _MOST_ITEMS:
            yield f"{where}: the checkpoint's config has {len(value):,} items here. {_trust(where)}"
        else:
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                yield from _too_large(item, f"{where}.{key}")
    elif isinstance(value, int) and abs(value) > _LARGEST:
        yield f"{where}: the checkpoint's config has {value} here, which is too large. {_trust(where)}"


def _trust(where: str) -> str:
    return f"If you trust the file: --set {where}=VALUE"


def without_download(plan: Plan, given: Collection[str]) -> Plan:
    """The plan with a data set that reads only files that are there. `given`: keys behind `--set`."""
    if "download" not in parameters(plan.dataset.target) or "dataset.args.download" in given:
        return plan
    return replace(plan, dataset=replace(plan.dataset, args=plan.dataset.args | {"download": False}))


def check_size_of_model(plan: Plan, checkpoint: dict[str, Any], source: str, given: Collection[str]) -> None:
    """Refuse a model that is larger than the weights in its checkpoint, before memory is allocated.

    Raises:
        CheckpointError: it is larger, or cannot be built without memory, and `--set` names no model.
    """
    if any(key.split(".")[0] == "model" for key in given):
        return
    hint = "If you trust the file: --set model.type=NAME."
    try:
        with torch.device("meta"):
            model = plan.model.build()
    except ConfigError as error:
        raise CheckpointError(f"{source}: its model cannot be compared with its weights: {error} {hint}") from error
    state, shards = checkpoint["model"], checkpoint.get("shards", {}).get("tensors", {})
    shapes = {name: value.shape for name, value in state.items() if isinstance(value, Tensor)}
    shapes |= {name.removeprefix("/model/"): torch.Size(about["shape"]) for name, about in shards.items()}
    own = dict(model.named_parameters()) | dict(model.named_buffers())
    larger = {name: tensor for name, tensor in own.items() if shapes.get(name) != tensor.shape}
    if sum(tensor.numel() * tensor.element_size() for tensor in larger.values()) > _FREE_BYTES:
        names = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in [*larger.items()][:_MOST_SHOWN])
        raise CheckpointError(f"{source}: its config's model is larger than its weights: {names}. {hint}")
