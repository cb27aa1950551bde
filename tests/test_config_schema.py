"""schema/config.schema.json and docs/config.md say what the code checks."""

import json

import jsonschema
import pytest
from conftest import ROOT

from utils.config.json_schema import DOCS, SCHEMA, files, versions
from utils.config.lookup import KINDS
from utils.config.options import LoaderOptions, RunOptions
from utils.config.schemas import schemas_of_options

CONFIGS = [
    ROOT / "config.json",
    *sorted((ROOT / "configs").glob("*.json")),
    *sorted((ROOT / "examples").glob("*/*.json")),
]
RENEW = "run `make schema` and commit what it writes"


def saved_schema():
    return json.loads((ROOT / SCHEMA).read_text())


def errors(config):
    return [error.message for error in jsonschema.Draft7Validator(saved_schema()).iter_errors(config)]


def test_the_schema_is_current():
    """With other versions of the libraries their names differ: then only what is ours is compared."""
    saved, made = saved_schema(), json.loads(files()[SCHEMA])
    if versions() not in saved["$comment"]:
        for schema in (saved, made):
            del schema["$comment"], schema["definitions"]
    assert saved == made, RENEW


def test_the_docs_are_current():
    assert (ROOT / DOCS).read_text() == files()[DOCS], RENEW


def test_the_docs_have_every_key_with_its_meaning():
    text = (ROOT / DOCS).read_text()
    for options in (RunOptions, LoaderOptions, *(kind.extras for kind in KINDS.values() if kind.extras)):
        for name, schema in schemas_of_options(options).items():
            assert f"| `{name}` |" in text and len(schema["description"]) > 5, name


def test_the_schema_is_one():
    jsonschema.Draft7Validator.check_schema(saved_schema())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_configs_name_their_schema_and_keep_to_it(path):
    config = json.loads(path.read_text())
    assert (path.parent / config["$schema"]).resolve() == ROOT / SCHEMA
    assert errors(config) == []


@pytest.mark.parametrize(
    "change",
    [
        {"optimiser": "Adam"},
        {"seed": "0"},
        {"trainer": {"epochs": "ten"}},
        {"trainer": {"epochs": 3, "early_stpo": 3}},
        {"trainer": {"epochs": 3, "on_non_finite": "ignore"}},
        {"model": "LeNett"},
        {"model": {"type": "LeNet", "args": {"num_classes": 10, "hiden": 3}}},
        {"optimizer": {"type": "Adam", "args": {"lr": "1e-3"}}},
        {"data_loader": {"batch_size": 0}},
        {"lr_scheduler": {"type": "ReduceLROnPlateau", "args": {"mode": "maximum"}}},
        {"metrics": ["acuracy"]},
    ],
)
def test_an_editor_underlines_mistakes(change):
    assert errors(json.loads((ROOT / "tests" / "config.json").read_text()) | change)


@pytest.mark.parametrize(
    "config",
    [
        {"extends": "../config.json", "seed": "${env:SEED}"},
        {"extends": ["a.json", "b.json"], "trainer": {"epochs": 3}},
        {"extends": "a.json", "optimizer": {"args": {"lr": 0.1}}, "loss": None},
        {"extends": "a.json", "data_loader": {"sampler": {"type": "SequentialSampler"}}},
        {"extends": "a.json", "model": {"type": "model.model.LeNet", "args": {"num_classes": 10}, "freeze": "conv*"}},
    ],
)
def test_an_editor_underlines_nothing_that_is_right(config):
    assert errors(config) == []
