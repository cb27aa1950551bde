"""Methods that a person has written and nothing calls: names of other frameworks, close misspellings, and methods of a
base class that the run relies on as they are."""

import builtins
import inspect
import linecache
import re
from difflib import get_close_matches
from typing import Any

from utils.config.lookup import attribute
from utils.errors import ConfigError
from utils.frames import is_project_module

_STEP, _VALID, _END = "train_step(self, batch)", "valid_step(self, batch)", "on_epoch_end(self, values)"
_ELSEWHERE = "the config's sections {}, which the constructor gets"
_INIT_OR_STEP = "__init__, train_step or on_epoch_end"
# By section: what is called, and what others call it. A value with a parenthesis is a signature to rename it to;
# another one is the place where its content belongs.
_CALLED = {
    "trainer": {"train_step": _STEP, "valid_step": _VALID, "stateful": "stateful(self)", "on_epoch_end": _END},
    "dataset": {
        "__getitem__": "__getitem__(self, index)",
        "__getitems__": "__getitems__(self, indices)",
        "__len__": "__len__(self)",
        "collate": "collate(self, samples)",
    },
    "model": {"forward": "forward(self, inputs)"},
}
_IN_TRAINER = "trainer/trainer.py: train_step and valid_step"
_OTHERS = {
    "trainer": {
        **dict.fromkeys(("training_step", "_train_epoch", "train_epoch", "_train_step"), _STEP),
        **dict.fromkeys(("validation_step", "val_step", "eval_step", "evaluate_step", "evaluation_step"), _VALID),
        **dict.fromkeys(("test_step", "_valid_epoch", "valid_epoch", "validate", "_valid_step", "_val_step"), _VALID),
        **dict.fromkeys(("on_train_epoch_end", "on_validation_epoch_end", "training_epoch_end"), _END),
        **dict.fromkeys(("validation_epoch_end", "on_validation_end", "epoch_end", "on_train_end"), _END),
        **dict.fromkeys(("on_fit_start", "on_train_start", "on_epoch_start", "on_train_epoch_start"), _INIT_OR_STEP),
        **dict.fromkeys(("on_train_batch_end", "on_train_batch_start", "_progress"), _INIT_OR_STEP),
        "configure_optimizers": _ELSEWHERE.format("optimizer and lr_scheduler"),
        "train_dataloader": _ELSEWHERE.format("dataset and data_loader"),
        "val_dataloader": _ELSEWHERE.format("dataset and data_loader"),
    },
    "dataset": {"length": "__len__(self)", "lenght": "__len__(self)", "len": "__len__(self)"},
    "model": {
        **dict.fromkeys(("training_step", "validation_step", "test_step"), _IN_TRAINER),
        "configure_optimizers": "the config's sections optimizer and lr_scheduler",
    },
}
_OVERRIDDEN = {"train_step", "valid_step", "stateful", "on_epoch_end"}
_PYTHONS = {*dir(list), *dir(dict), "__getattr__", "__getattribute__"}
_CUTOFF = 0.82  # of likeness, from which on a name is a misspelling


def check_methods(section: str, found: Any) -> None:
    """Look through a class of the project's own that a config names.

    Raises:
        ConfigError: a method of it is never called, or replaces one of the run's.
    """
    if section not in _CALLED or not inspect.isclass(found):
        return
    base = attribute("base.base_trainer.BaseTrainer") if section == "trainer" else object
    final = {name for name in vars(base) if not name.startswith("_")} - _OVERRIDDEN
    for kind in found.__mro__:
        for name, value in vars(kind).items() if is_project_module(kind.__module__) else ():
            if name in final:
                raise ConfigError(
                    f"{kind.__name__}.{name} replaces a method of the run, which relies on its own. Rename it."
                )
            if inspect.isfunction(value) and (signature := _CALLED[section].get(name)) and not _takes(value, signature):
                raise ConfigError(f"{kind.__name__}.{name} takes other arguments. Write def {signature}.")
            if inspect.isfunction(value) and (meant := _meant(section, name)) and not _is_used(name, value):
                change = f"Rename it: def {meant}." if "(" in meant else f"Write its content in {meant}."
                raise ConfigError(f"{kind.__name__}.{name} is never called. {change}")


def _takes(function: Any, signature: str) -> bool:
    """Whether a function can be called with as many arguments as the signature has."""
    if "(" not in signature or function.__name__ == "forward":
        return True
    try:
        inspect.signature(function).bind(*signature.partition("(")[2].split(","))
        return True
    except TypeError:
        return False


def _meant(section: str, name: str) -> str:
    """What a name of a method was meant to be; "" if it is one that is called, or like none."""
    called, others = _CALLED[section], _OTHERS[section]
    if name in called or name in _PYTHONS or name == "collate_fn":  # which may be an attribute: see data_loader/
        return ""
    plain = {_plain(known): signature for known, signature in called.items()}
    near = get_close_matches(_plain(name), plain, n=1, cutoff=_CUTOFF)
    return others.get(name) or others.get(name.strip("_")) or (plain[near[0]] if near else "")


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _is_used(name: str, function: Any) -> bool:
    """Whether its own file calls it, or names it in another way than by its definition."""
    text = "".join(linecache.getlines(function.__code__.co_filename))
    calls = "" if hasattr(builtins, name) else rf"|(?<!def )\b{name}\("
    return bool(re.search(rf"\.{name}\b|['\"]{name}['\"]{calls}", text))
