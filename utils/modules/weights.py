"""Where the weights of a model start: an initialization, a file, or what torchvision has trained."""

import hashlib
import inspect
import logging
import re
from collections.abc import Callable
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from utils.checkpoints.checkpoint import CheckpointError, load_checkpoint
from utils.checkpoints.run_checkpoints import load_weights
from utils.checkpoints.state_dict import fill, find_state_dict
from utils.config.options import ModelOptions
from utils.errors import ConfigError, closest
from utils.modules.parameter_groups import freeze
from utils.paths import PathError, project_path, shown_path

log = logging.getLogger(__name__)


def prepared(
    model: nn.Module,
    options: ModelOptions,
    builder: Callable[..., nn.Module],
    is_new: bool = True,
    init_from: str | None = None,
) -> nn.Module:
    """The model as it starts: initialized, with weights, partly frozen. A run that goes on has weights of its own.

    `builder`: what made it. `init_from`: a file that is taken in the place of `options.weights`.
    """
    if is_new and options.init:
        initialize(model, options.init())
    if is_new and init_from:
        load_weights(model, init_from, options.strict)
    elif is_new and options.weights:
        is_torchvision = inspect.isfunction(builder)
        load_starting_weights(model, options.weights, options.strict, builder=builder if is_torchvision else None)
    if options.freeze is not None:
        freeze(model, options.freeze)
    return model


def initialize(model: nn.Module, function: Callable[..., Any]) -> None:
    """Fill each `weight` of two or more dimensions by a function of `torch.nn.init`, and log which.

    Those are the weights of linear, convolution and embedding layers. Norms and biases keep torch's values, and so do
    weights of other names, as recurrent layers have them.

    Raises:
        ConfigError: there is no such weight, or the function refuses one.
    """
    names = {module: name for name, module in model.named_modules()}
    done: set[nn.Parameter] = set()

    def fill_own(module: nn.Module) -> None:
        weight = module._parameters.get("weight")
        if weight is None or weight.dim() < 2 or weight in done:
            return
        done.add(weight)
        where = f"{names[module]}.weight {tuple(weight.shape)}".lstrip(".")
        try:
            function(weight)
        except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise ConfigError(f"model.init: {_written(function)} refuses {where}: {reason}.") from error
        _clear_padding(module, weight)
        log.info("model.init: %s: %s", where, _written(function))

    model.apply(fill_own)
    if not done:
        raise ConfigError(
            f"model.init: {type(model).__name__} has no weight of two or more dimensions, so {_written(function)} "
            "would change nothing. Leave it out."
        )


def _written(function: Callable[..., Any]) -> str:
    """A function and its arguments as one would write them."""
    if not isinstance(function, partial):
        return getattr(function, "__name__", str(function))
    args = [repr(value) for value in function.args] + [f"{name}={value!r}" for name, value in function.keywords.items()]
    return f"{_written(function.func)}({', '.join(args)})"


def _clear_padding(module: nn.Module, weight: Tensor) -> None:
    """The row of an embedding that stands for padding is zero, and never trained."""
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.padding_idx is not None:
        with torch.no_grad():
            weight[module.padding_idx] = 0


def load_starting_weights(
    model: nn.Module,
    source: str,
    strict: bool = True,
    where: str = "model.weights",
    builder: Callable[..., nn.Module] | None = None,
) -> None:
    """Fill a model from a run (its best checkpoint), a checkpoint, a state_dict's file, or by torchvision's weights.

    `source`: a path, from the project's root; or the name of weights, such as "DEFAULT", where `builder` is the
    function of `torchvision.models` that made the model. `strict`: false takes what fits, with warnings of the rest.

    Raises:
        ConfigError: there is nothing of that name, it cannot be used or fetched, or it does not fit. The model is
            as before.
    """
    try:
        weights = _named(builder, source) if builder else None
        if weights is not None:
            fill(model, _pretrained(weights, model, builder), str(weights), strict)
        else:
            load_weights(model, project_path(source), strict)
    except (CheckpointError, PathError) as error:
        raise ConfigError(f"{where}: {error}") from error
    log.info("%s: started from %s", where, weights or source)


def _named(builder: Callable[..., nn.Module], source: str) -> Any:
    """The weights of that name; None if it is a file's.

    Raises:
        CheckpointError: it is neither.
    """
    from torchvision.models import get_model_weights

    choices = get_model_weights(builder)
    owner, _, name = source.rpartition(".")
    if owner in ("", choices.__name__) and name in choices.__members__:
        return choices[name]
    if project_path(source).exists():
        return None
    raise CheckpointError(
        f"{builder.__name__} has no weights named {source!r}, and there is no such file: "
        f"{shown_path(project_path(source))}. {closest(name, choices.__members__)}"
    )


# DenseNets are stored under names of an early torch: `norm.1` for `norm1`. torchvision renames them, too.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(?=\d\.)")


def _pretrained(weights: Any, model: nn.Module, builder: Any) -> dict[str, Any]:
    """torchvision's weights, as its builders load them: without the parts that the model has switched off."""
    path = _fetched(weights.url, f"{weights} of {builder.__name__}")
    state = find_state_dict(load_checkpoint(path), model, str(weights))
    for name in list(state):
        if getattr(model, name.split(".")[0], model) is None:  # such as `aux1`
            del state[name]
        elif (new := _OLD_DENSENET.sub(r"\1", name)) != name:
            state[new] = state.pop(name)
    if getattr(model, "transform_input", True) is False:
        log.warning(
            '%s were trained with "transform_input": true. Write that in model.args, unless your data set normalizes '
            "with mean and standard deviation 0.5.",
            weights,
        )
    return state


def _fetched(url: str, what: str) -> Path:
    """The file of a URL, in the folder where torch.hub keeps such; checked by the hash in its name at each start.

    torch.hub itself checks what it downloads, and never what lies there.
    """
    name = url.rpartition("/")[2]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    match = re.search(r"-([0-9a-f]{8,})\.", name)
    assert match, "torchvision names its files so"
    try:
        if not path.exists():
            log.info("Downloading %s to %s", url, path)
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), match[1], progress=False)
        if not path.is_file():  # to open a FIFO would wait
            raise OSError(f"{path} is not a regular file")
        found = _sha256(path)
    except (OSError, RuntimeError, HTTPException) as error:
        raise CheckpointError(
            f"{what} cannot be had ({error}). Download {name} elsewhere, from {url}, and put it there: {path}"
        ) from error
    if not found.startswith(match[1]):
        raise CheckpointError(
            f"{path}: damaged, or not {what}: its SHA-256 begins with {found[: len(match[1])]}, not {match[1]}. "
            "Delete it to have it downloaded again."
        )
    return path


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
