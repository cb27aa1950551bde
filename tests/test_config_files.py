"""Reading a config file, and changing it from the command line."""

import json

import pytest

from utils.config.loading import changed_keys, load_config
from utils.config.overrides import override
from utils.errors import ConfigError, UserError


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"name": "a",}', "bad.json:1:13: not JSON: "),
        ('{\n  "seed": 0\n  "n_gpu": 1\n}', "bad.json:2:12: not JSON: a comma is missing at the end of this line."),
        ('{"a": "x" "b": 1}', "bad.json:1:10: not JSON: a comma is missing."),
        ('{"a": True}', "bad.json:1:7: not JSON: True is not a value. Write true."),
        ("[false, None]", "bad.json:1:9: not JSON: None is not a value. Write null."),
        ('{"lr": .05}', "bad.json:1:8: not JSON: .05 is not a number. Write 0.05."),
        ('{"lr": 5., "a": 1}', "bad.json:1:8: not JSON: 5. is not a number. Write 5.0."),
        ('{"lr": +5}', "bad.json:1:8: not JSON: +5 is not a number. Write 5."),
        ('{"lr": 010}', "bad.json:1:8: not JSON: 010 is not a value. Write text in double quotes, and numbers such as"),
        (
            "{\"a\": 'x'}",
            "bad.json:1:7: not JSON: 'x' is not a value. Write text in double quotes, and numbers such as",
        ),
        (
            '{"a": Adam}',
            "bad.json:1:7: not JSON: Adam is not a value. Write text in double quotes, and numbers such as",
        ),
        ('{"a": }', "bad.json:1:7: not JSON: a value is missing."),
        ('{"a": ,\n"b": 1}', "bad.json:1:7: not JSON: a value is missing."),
        ('{"a":', "bad.json:1:6: not JSON: a value is missing."),
        ("[1]", "bad.json:1: a config is an object {...}, found list."),
        (
            '{"seed": 0, "model": {"type": "A", "type": "B"}}',
            "bad.json:1: model.type: stands twice in one object, first in line 1.",
        ),
        ("[" * 100_000, "bad.json: nested too deeply: a config has at most 50 levels."),
        ("", "bad.json:1:1: not JSON: the file is empty."),
        (
            f'{{"a": [1, {"9" * 5000}]}}',
            f"bad.json:1: a.1: {'9' * 40}... is not finite. Write a finite number, or null.",
        ),
        ('{"lr": NaN}', "bad.json:1: lr: NaN is not finite. Write a finite number, or null."),
    ],
)
def test_what_is_no_config_is_named_with_its_place(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(UserError) as error:
        load_config("bad.json")
    assert str(error.value).startswith(message)


def test_a_file_that_is_not_there(project):
    message = project.refused("-c", "nowhere.json")
    assert message.startswith("error: nowhere.json: no such config file. Working directory: ")


def test_a_folder_is_told_with_what_is_in_it(project):
    project.write_config()
    message = project.refused("-c", project.folder)
    assert "is a folder, not a config file. In it: " in message and "config.json" in message


def test_bytes_that_are_no_text(project):
    path = project.folder / "bytes.json"
    path.write_bytes(b"\xff\xfe\x00")
    message = "cannot be read as a config: its bytes are not {}. Save it as UTF-8."
    assert f"bytes.json:1: {message.format('UTF-16-LE')}" in project.refused("-c", path)
    path.write_bytes('{\n"name": "고양이"}'.encode("cp949"))  # as an old editor on a Korean Windows saves it
    assert f"bytes.json:2: {message.format('UTF-8')}" in project.refused("-c", path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_every_unicode_is_read_as_editors_and_powershell_write_it(tmp_path, encoding, suffix):
    path = tmp_path / f"config.{suffix}"
    path.write_bytes('{"name": "고양이",\r\n"seed": 1}'.encode(encoding))
    assert load_config(path) == {"name": "고양이", "seed": 1}


# ---- overrides ----

CONFIG = {"seed": 0, "optimizer": {"type": "Adam", "args": {}}, "metrics": ["a", {"type": "b"}], "lr_scheduler": None}


@pytest.mark.parametrize(
    ("assignment", "key", "value"),
    [
        ("seed=7", "seed", 7),
        ("optimizer.args.lr=1e-3", "optimizer", {"type": "Adam", "args": {"lr": 0.001}}),
        ("optimizer=SGD", "optimizer", {"type": "SGD", "args": {}}),
        ("metrics.1.args.k=5", "metrics", ["a", {"type": "b", "args": {"k": 5}}]),
        ("metrics.0=c", "metrics", ["c", {"type": "b"}]),
        ("metrics.0.args.k=2", "metrics", [{"type": "a", "args": {"k": 2}}, {"type": "b"}]),
        ("metrics=[]", "metrics", []),
        ("lr_scheduler.type=StepLR", "lr_scheduler", {"type": "StepLR"}),
        ("optimizer=null", "optimizer", None),
        ("seed=None", "seed", None),
        ("n_gpu=true", "n_gpu", True),
        ("name=a=b", "name", "a=b"),
        ("seed=.5", "seed", 0.5),
        ("name=NaN", "name", "NaN"),
        ("name=", "name", ""),
    ],
)
def test_overrides(assignment, key, value):
    before = json.dumps(CONFIG)
    assert override(CONFIG, [assignment])[key] == value
    assert json.dumps(CONFIG) == before


def test_a_section_is_set_before_what_is_in_it():
    changed = override(CONFIG, ["optimizer.args.lr=0.5", "optimizer=SGD"])
    assert changed["optimizer"] == {"type": "SGD", "args": {"lr": 0.5}}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("seed", "--set seed: not an assignment. Write it as section.key=value."),
        ("=3", "--set =3: not an assignment. Write it as section.key=value."),
        ("seed.a=1", "--set seed.a=1: seed is 0, which has no keys."),
        ("metrics.2=a", "--set metrics.2=a: the list has items 0 to 1, found '2'."),
        ("metrics.x.k=1", "--set metrics.x.k=1: the list has items 0 to 1, found 'x'."),
        ("seed.a.b=1", "--set seed.a.b=1: 'a' lies below 0, which has no keys."),
    ],
)
def test_overrides_that_lead_nowhere(assignment, message):
    with pytest.raises(ConfigError) as error:
        override(CONFIG, [assignment])
    assert str(error.value) == message


def test_changed_keys():
    old = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert changed_keys(old, {"a": {"b": 2, "c": [1, 2]}, "e": 1}) == ["a.b", "d", "e"]
    assert changed_keys(old, old) == []
