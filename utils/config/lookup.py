"""From a name in a config to a class or function: one table of what each section may name, and where it is looked up.

A bare name is looked up in the project's own module for the section, then in the section's libraries. A dotted name
is looked up below the project's root only. What is found must be of the section's kind: a config can come from a
stranger's checkpoint, and must not be able to call anything else.
"""

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from utils.config import options
from utils.errors import ConfigError, closest
from utils.paths import PROJECT_ROOT

Predicate = Callable[[Any], bool]
PARALLEL = "utils.distributed.parallel.Parallel"


@dataclass(frozen=True)
class Kind:
    """What a section may name.

    `provided`: the arguments that `train.py` passes by name, those of them that the callable takes.
    `positional`: how many leading arguments a function is given at each call.
    `required`: those of them that it must take.
    `nested`: the kind of a section that stands inside `args`.
    `extras`: the options that a section has beside `type` and `args`.
    `default_type`: what a section without a `type` names.
    """

    title: str
    accepts: Predicate
    project: str = ""
    libraries: tuple[str, ...] = ()
    provided: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    positional: int = 0
    nested: str = ""
    extras: type | None = None
    default_type: str | None = None


def attribute(dotted: str) -> Any:
    """What stands under a dotted name of this code. Never given a name from a config."""
    module, _, name = dotted.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _subclass_of(dotted: str) -> Predicate:
    def accepts(found: Any) -> bool:
        base = attribute(dotted)
        is_below = inspect.isclass(found) and found is not base and issubclass(found, base)
        return is_below and not inspect.isabstract(found)

    return accepts


def _either(*predicates: Predicate) -> Predicate:
    return lambda found: any(accepts(found) for accepts in predicates)


def _is_torchvision_model(found: Any) -> bool:
    if not inspect.isfunction(found) or not found.__module__.startswith("torchvision.models."):
        return False
    return found.__name__ in importlib.import_module("torchvision.models").list_models()


def _is_builder(found: Any) -> bool:
    """A function of the project's that makes a model."""
    returned = getattr(found, "__annotations__", {}).get("return")
    if not inspect.isfunction(found) or found.__module__.split(".")[0] in ("torch", "torchvision"):
        return False
    return inspect.isclass(returned) and issubclass(returned, attribute("torch.nn.Module"))


def _is_parallel(found: Any) -> bool:
    """A function that makes one of the ways in which processes share a run."""
    returned = getattr(found, "__annotations__", {}).get("return")
    return inspect.isfunction(found) and inspect.isclass(returned) and issubclass(returned, attribute(PARALLEL))


def _is_loss_class(found: Any) -> bool:
    base = "torch.nn.modules.loss._Loss" if found.__module__.startswith("torch.") else "torch.nn.Module"
    return _subclass_of(base)(found)


def _is_loss_function(found: Any) -> bool:
    in_torch = found.__module__.startswith("torch.")
    return _is_function_of_two(found) and (not in_torch or "reduction" in inspect.signature(found).parameters)


def _is_init_function(found: Any) -> bool:
    """One that fills the tensor that it is given; those without the underscore are its deprecated twins."""
    is_function = inspect.isfunction(found) and found.__name__.endswith("_")
    return is_function and "tensor" in inspect.signature(found).parameters


def _is_function_of_two(found: Any) -> bool:
    """A function of (output, target), and perhaps more by keyword."""
    if not inspect.isfunction(found):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(parameter.kind in positional for parameter in inspect.signature(found).parameters.values()) >= 2


KINDS = {
    "model": Kind(
        "a torch.nn.Module class, or a function that says that it returns one",
        _either(_subclass_of("torch.nn.Module"), _is_torchvision_model, _is_builder),
        project="model.model",
        libraries=("torchvision.models",),
        nested="layer",
        extras=options.ModelOptions,
    ),
    "layer": Kind(
        "a torch.nn.Module class",
        _subclass_of("torch.nn.Module"),
        project="model.model",
        libraries=("torch.nn",),
        nested="layer",
    ),
    "init": Kind(
        "a function of torch.nn.init",
        _is_init_function,
        libraries=("torch.nn.init",),
        positional=1,
    ),
    "dataset": Kind(
        "a torch.utils.data.Dataset class",
        _subclass_of("torch.utils.data.Dataset"),
        project="data_loader.datasets",
        provided=("split",),
        required=("split",),
        nested="transform",
        extras=options.DatasetOptions,
    ),
    "transform": Kind(
        "a transform class",
        _subclass_of("torch.nn.Module"),
        project="data_loader.transforms",
        libraries=("torchvision.transforms.v2",),
        nested="transform",
    ),
    "sampler": Kind(
        "a torch.utils.data.Sampler class",
        _subclass_of("torch.utils.data.Sampler"),
        project="data_loader.samplers",
        libraries=("torch.utils.data",),
        provided=("data_source", "dataset", "generator", "batch_size"),
        nested="sampler",
    ),
    "loss": Kind(
        "a loss: a torch.nn.Module class, or a function of (output, target)",
        _either(_is_loss_class, _is_loss_function),
        project="model.loss",
        libraries=("torch.nn", "torch.nn.functional"),
        positional=2,
        nested="layer",
    ),
    "metric": Kind(
        "a metric: a function of (output, target), or a class with update, compute and reset",
        _either(_subclass_of("logger.metrics.MetricObject"), _is_function_of_two),
        project="model.metric",
        libraries=("torchmetrics", "torchmetrics.classification", "torchmetrics.regression"),
        positional=2,
        nested="metric",
        extras=options.MetricOptions,
    ),
    "optimizer": Kind(
        "a torch.optim.Optimizer class",
        _subclass_of("torch.optim.Optimizer"),
        libraries=("torch.optim",),
        provided=("params",),
        extras=options.OptimizerOptions,
    ),
    "lr_scheduler": Kind(
        "a torch.optim.lr_scheduler class",
        _subclass_of("torch.optim.lr_scheduler.LRScheduler"),
        libraries=("torch.optim.lr_scheduler",),
        provided=("optimizer",),
        nested="lr_scheduler",
        extras=options.SchedulerOptions,
    ),
    "trainer": Kind(
        "a BaseTrainer class",
        _subclass_of("base.base_trainer.BaseTrainer"),
        project="trainer.trainer",
        libraries=("trainer.full_trainer",),
        provided=("run", "model", "loss_fn", "optimizer", "lr_scheduler"),
        nested="model",
        extras=options.RunOptions,
        default_type="Trainer",
    ),
    "function": Kind("a function of the project, by its dotted name", inspect.isfunction, positional=1),
    "parallel": Kind(
        "a function that says that it returns a utils.distributed.parallel.Parallel",
        _is_parallel,
        project="utils.distributed.parallel",
    ),
}


def look_up(kind: Kind, name: str) -> Callable[..., Any]:
    """The class or function that `name` means in a section of this kind.

    Raises:
        ConfigError: there is none, or it is not of the kind.
    """
    if "." in name:
        return _look_up_dotted(kind, name)
    own = ""  # what is wrong with a class or function of the person's
    for module in _modules(kind):
        found = getattr(module, name, None)
        if found is not None and _belongs(found, module):
            if kind.accepts(found):
                return found
            missing = _missing(found)
            if missing or module.__name__ == kind.project:
                own = own or f"{name!r} is not {kind.title}{f': {missing}' if missing else ''}."
    if own:
        raise ConfigError(own)
    absent = [library for library in kind.libraries if importlib.util.find_spec(library.split(".")[0]) is None]
    hint = f" {absent[0]} is not installed." if absent else ""
    raise ConfigError(f"no {name!r} here. {closest(name, names(kind))}{hint}")


def names(kind: Kind) -> list[str]:
    """Every bare name that a section of this kind may have as its `type`."""
    return sorted({name for found in catalogue(kind).values() for name in found})


def catalogue(kind: Kind) -> dict[str, dict[str, Callable[..., Any]]]:
    """What the bare names of a kind mean, module by module; those that another module has first are left out."""
    modules: dict[str, dict[str, Callable[..., Any]]] = {}
    for module in _modules(kind):
        known = {name for found in modules.values() for name in found}
        modules[module.__name__] = {
            name: found
            for name, found in sorted(vars(module).items())
            if not name.startswith("_") and name not in known and _belongs(found, module) and kind.accepts(found)
        }
    return modules


def _look_up_dotted(kind: Kind, name: str) -> Callable[..., Any]:
    module_name, _, attribute = name.rpartition(".")
    path = PROJECT_ROOT.joinpath(*module_name.split("."))
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f"{name!r} is not a dotted name.")
    is_module = path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()
    top = PROJECT_ROOT / module_name.split(".")[0]  # runs and data are no packages: their files are never imported
    if not is_module:
        raise ConfigError(f"{name!r}: the project has no module {module_name}. A dotted name starts at its root.")
    if top.is_dir() and not (top / "__init__.py").is_file():
        raise ConfigError(
            f"{name!r}: {top.name}/ is no package. If it is code of yours, put an empty __init__.py there."
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{name!r}: {module_name} needs a package that is not installed: {error.name}.") from error
    found = getattr(module, attribute, None)
    if found is None or not _belongs(found, module):
        raise ConfigError(f"{name!r}: {module_name} has no {attribute!r}. {closest(attribute, _own(kind, module))}")
    if not kind.accepts(found):
        missing = _missing(found)
        raise ConfigError(f"{name!r} is not {kind.title}{f': {missing}' if missing else ''}.")
    return found


def _missing(found: Any) -> str:
    """The abstract methods that a class leaves undefined, in words."""
    return " and ".join(f"it has no {name}" for name in sorted(getattr(found, "__abstractmethods__", ())))


def _own(kind: Kind, module: ModuleType) -> list[str]:
    return [name for name, found in vars(module).items() if _belongs(found, module) and kind.accepts(found)]


def _modules(kind: Kind) -> Iterator[ModuleType]:
    """The project's own first, each imported when it is asked for: torchvision takes seconds."""
    for name in filter(None, (kind.project, *kind.libraries)):
        try:
            yield importlib.import_module(name)
        except ModuleNotFoundError as error:
            if not name.startswith(str(error.name)):
                raise  # the module is there; something that it imports is not


def _belongs(found: Any, module: ModuleType) -> bool:
    """Whether it was written in this module's package, and not merely imported there."""
    home = getattr(found, "__module__", None) or ""
    return callable(found) and home.split(".")[0] == module.__name__.split(".")[0]
