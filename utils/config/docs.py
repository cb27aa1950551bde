"""docs/config.md: every key, its type, default and meaning."""

import inspect
import json
from collections.abc import Mapping
from typing import Any

from utils.config.frame import DEFAULTS, REQUIRED, SECTIONS
from utils.config.lookup import KINDS, catalogue
from utils.config.options import LoaderOptions, TopOptions
from utils.config.schemas import Schema, described, schemas_of_options
from utils.config.signatures import signature_text
from utils.paths import PROJECT_ROOT

HEAD = """\
# The config

Made by `python -m utils.config.json_schema` from the code that checks configs; a test holds it current.

A config is JSON, or YAML with the same keys. `"$schema": "schema/config.schema.json"` lets an editor complete and
underline. Every mistake is told at once, as `file:line: key: what was found. What to write.`, before anything is
made.

## Sections

A section names a class or function and its arguments: `{"type": NAME, "args": {...}}`; `"NAME"` is short for one
without arguments. A bare name is looked up in the project's own file, then in the library; a dotted name, such as
`model.resnet.SmallImageResNet18`, starts at the project's root. A function of your own may stand for a model where it
says that it returns one: `-> nn.Module`. `python train.py --list SECTION` prints all names with their arguments.

**An argument that takes an object takes a section**, at any depth, in lists, too: transforms, samplers, chained
schedulers, layers. The section is built, and the object passed. Where the argument takes a class, or a function that
makes objects (by its annotation: `type[nn.Module]`, `Callable[..., Optimizer]`), as for the activation of a model or a
trainer's second optimizer, what the section names is passed, with its arguments given to it. A name in the place of a
section is short for one without arguments, unless the argument takes text. An argument without annotation is told by
its default. Plain values become what the annotation says: a list a tuple or a tensor, a text a `torch.dtype`, a member
of an enum or a path.

| section | own file | library |
|---|---|---|
"""
REST = """\

## Other files, the environment, the command line

`"extends": "other.json"`, or a list of files, relative to the file: this config changes that one, section by section;
a list is replaced as a whole, and a section whose `type` changes starts afresh (the trainer keeps the run's settings,
and loses its `args`). `${env:NAME}` is replaced by an environment variable, in a file that you give with `-c` only,
never in the config of a run or checkpoint; what a variable such as `API_TOKEN` says is written into no file of a run.
`--set a.b.0.c=VALUE` sets one value, of the type that belongs there; it may name a key that is not in the file. A
section is set before what is in it, whatever the order. In YAML, `1e-3` is a number and `off`, `yes`, `010`, `1:30`,
`2026-01-02` are text; tags and merge keys are refused.

"""


def config_docs() -> str:
    return HEAD + _homes() + REST + _tables() + _own_names()


def _homes() -> str:
    rows = []
    for name, kind in KINDS.items():
        own = [module for module in (kind.project, *kind.libraries) if _is_own(module)]
        files = ", ".join(f"`{module.replace('.', '/')}.py`" for module in own)
        libraries = ", ".join(f"`{library}`" for library in kind.libraries if library not in own)
        rows.append(f"| {PLACES_OF[name]} | {files} | {libraries} |")
    return "\n".join(rows) + "\n"


def _is_own(module: str) -> bool:
    """Whether a module is the project's, and not of a library."""
    return bool(module) and (PROJECT_ROOT / module.split(".")[0]).is_dir()


# What each kind of section is in a config.
PLACES_OF = {
    "model": "`model`",
    "layer": "in `model.args`, `loss.args`; a module in `trainer.args`",
    "init": "`model.init`",
    "dataset": "`dataset`",
    "transform": "in `dataset.args`",
    "sampler": "`data_loader.sampler`, `batch_sampler`",
    "loss": "`loss`",
    "metric": "`metrics`, a list",
    "optimizer": "`optimizer`",
    "lr_scheduler": "`lr_scheduler`",
    "trainer": "`trainer`",
    "function": "a function of one argument, such as `lr_lambda`",
    "parallel": "`parallel`",
}


def _tables() -> str:
    parts = ["## Keys\n\n### At the top\n\n", _table(schemas_of_options(TopOptions) | _sections())]
    for name in SECTIONS:
        options = LoaderOptions if name == "data_loader" else KINDS[_KIND_OF.get(name, name)].extras
        if options:
            beside = "" if name == "data_loader" else ", beside `type` and `args`"
            where = "an entry of `metrics`" if name == "metrics" else f"`{name}`"
            parts.append(f"\n### In {where}{beside}\n\n" + _table(schemas_of_options(options)))
    return "".join(parts)


_KIND_OF = {"metrics": "metric"}


def _sections() -> dict[str, Schema]:
    words = {"metrics": "a list of sections", "data_loader": "an object"}
    return {
        name: {"words": words.get(name, "a section"), "description": meaning}
        | ({} if name in REQUIRED else {"default": DEFAULTS[name]})
        for name, meaning in SECTIONS.items()
    }


def _table(schemas: Mapping[str, Schema]) -> str:
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, schema in schemas.items():
        default = f"`{json.dumps(schema['default'])}`" if "default" in schema else "required"
        words = schema.get("words") or described(schema).replace("|", "\\|")
        rows.append(f"| `{name}` | {words} | {default} | {schema['description']} |")
    return "\n".join(rows) + "\n"


def _own_names() -> str:
    parts = ["\n## The project's own names\n"]
    homes = {module: kind for kind in reversed(KINDS.values()) for module in (kind.project, *kind.libraries)}
    for module in dict.fromkeys(name for kind in KINDS.values() for name in (kind.project, *kind.libraries)):
        if not _is_own(module):
            continue
        kind = homes[module]
        members = catalogue(kind).get(module, {}).values()
        if members:
            parts.append(f"\n### `{module.replace('.', '/')}.py`\n\n")
            parts += [f"- `{signature_text(member, kind)}`: {_first_paragraph(member)}\n" for member in members]
    return "".join(parts)


def _first_paragraph(target: Any) -> str:
    return " ".join((inspect.getdoc(target) or "").split("\n\n")[0].split())
