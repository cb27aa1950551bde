"""What a config may say, for editors and for readers: `python -m utils.config.json_schema` writes the files
schema/config.schema.json and docs/config.md, from the signatures and options that configs are checked against."""

import json
from collections.abc import Callable
from importlib import metadata
from typing import Any

from utils.config.docs import config_docs
from utils.config.frame import REQUIRED, SECTIONS
from utils.config.lookup import KINDS, Kind, catalogue
from utils.config.options import LoaderOptions, TopOptions
from utils.config.schemas import Schema, schemas_of_options
from utils.config.signatures import own_parameters, schema_of_parameter, takes_more
from utils.files import write_atomically
from utils.paths import PROJECT_ROOT

SCHEMA, DOCS = "schema/config.schema.json", "docs/config.md"
OPTIONAL_LIBRARIES = ("torchmetrics",)  # are not in the schema, whether they are installed or not


def main() -> None:
    for name, text in files().items():
        path = PROJECT_ROOT / name
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, text.encode())
        print(f"Wrote {path}")


def files() -> dict[str, str]:
    """What is to stand in each."""
    return {SCHEMA: _a_line_each(config_schema()), DOCS: config_docs()}


def _a_line_each(schema: Schema) -> str:
    """JSON with a line for each definition, so that a change is a few lines."""
    lines = [f"  {json.dumps(name)}: {json.dumps(found)}" for name, found in schema["definitions"].items()]
    head = json.dumps({name: value for name, value in schema.items() if name != "definitions"}, indent=1)
    return head.removesuffix("\n}") + ',\n "definitions": {\n' + ",\n".join(lines) + "\n }\n}\n"


def versions() -> str:
    """The libraries whose names stand in the schema."""
    return ", ".join(f"{name} {'.'.join(metadata.version(name).split('.')[:2])}" for name in ("torch", "torchvision"))


def config_schema() -> Schema:
    """A JSON schema (draft 7, which editors know best)."""
    definitions: dict[str, Schema] = {}
    properties: dict[str, Schema] = {
        "$schema": {"type": "string"},
        "extends": {
            "description": "a config, or a list of them, that this one changes; relative to this file",
            "type": ["string", "array"],
        },
        **{name: _for_editors(schema, "") for name, schema in schemas_of_options(TopOptions).items()},
    }
    for name, meaning in SECTIONS.items():
        choices = [_section(name)] + [{"type": "null"}] * (name not in REQUIRED)
        properties[name] = {"description": meaning, "anyOf": choices}
    for kind_name in KINDS:
        _define(kind_name, definitions)
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$comment": f"Made by python -m utils.config.json_schema, with {versions()}.",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "anyOf": [{"required": ["extends"]}, {"required": list(REQUIRED)}],
        "definitions": dict(sorted(definitions.items())),
    }


def _section(name: str) -> Schema:
    if name == "metrics":
        return {"type": "array", "items": {"$ref": "#/definitions/metric"}}
    if name == "data_loader":
        properties = {key: _for_editors(schema, "sampler") for key, schema in schemas_of_options(LoaderOptions).items()}
        return {"type": "object", "properties": properties, "additionalProperties": False}
    return {"$ref": f"#/definitions/{name}"}


def _define(kind_name: str, definitions: dict[str, Schema]) -> None:
    """Sections of a kind, and the arguments of each name."""
    kind = KINDS[kind_name]
    found = {
        name: target
        for module, members in catalogue(kind).items()
        if module.split(".")[0] not in OPTIONAL_LIBRARIES
        for name, target in members.items()
    }
    for name, target in found.items():
        definitions[f"{kind_name}.{name}"] = _arguments(target, kind)
    others = r"^[A-Z]|\." if set(OPTIONAL_LIBRARIES) & set(kind.libraries) else r"\."
    type_names = {"anyOf": [{"enum": sorted(found)}, {"type": "string", "pattern": others}]}
    extras = schemas_of_options(kind.extras) if kind.extras else {}
    nested = {"init": "init"}
    definitions[kind_name] = {
        "anyOf": [
            type_names,
            {
                "type": "object",
                "properties": {
                    "type": type_names | {"description": kind.title},
                    "args": {"type": "object", "description": "its arguments"},
                    **{key: _for_editors(schema, nested.get(key, "")) for key, schema in extras.items()},
                },
                "additionalProperties": False,
                **({"allOf": [_arguments_of(kind_name, name) for name in sorted(found)]} if found else {}),
            },
        ]
    }


def _arguments_of(kind_name: str, name: str) -> Schema:
    is_this = {"properties": {"type": {"const": name}}, "required": ["type"]}
    return {"if": is_this, "then": {"properties": {"args": {"$ref": f"#/definitions/{kind_name}.{name}"}}}}


def _arguments(target: Callable[..., Any], kind: Kind) -> Schema:
    properties = {}
    for name, parameter in own_parameters(target, kind).items():
        schema = _for_editors(schema_of_parameter(parameter), kind.nested)
        default = parameter.default
        is_plain = isinstance(default, (bool, int, float, str)) and default == default  # nan is no JSON
        properties[name] = schema | ({"default": default} if is_plain else {})
    return {"type": "object", "properties": properties, "additionalProperties": takes_more(target)}


def _for_editors(schema: Schema, nested: str) -> Schema:
    """In the words of draft 7; what is no text may come from the environment, too."""
    if "anyOf" in schema:
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        return {"anyOf": [_for_editors(choice, nested) for choice in schema["anyOf"]]} | rest
    schema = {key: value for key, value in schema.items() if value != {}}
    nested = schema.pop("kind", nested)
    if schema.pop("nested", None):
        return ({"$ref": f"#/definitions/{nested}"} if nested else {}) | schema
    if "prefixItems" in schema:
        schema["items"] = [_for_editors(item, nested) for item in schema.pop("prefixItems")]
    elif "items" in schema:
        schema["items"] = _for_editors(schema["items"], nested)
    if "enum" in schema:
        description = {key: schema.pop(key) for key in ("description", "default") if key in schema}
        return {"anyOf": [schema, {"type": "string", "pattern": r"^\$\{env:"}]} | description
    if schema.get("type") in ("integer", "number", "boolean"):
        schema |= {"type": [schema["type"], "string"], "pattern": r"^\$\{env:"}
    return schema


if __name__ == "__main__":
    main()
