"""Configs that change other configs, YAML, and the environment."""

import json

import pytest
import torch
from conftest import load as read
from conftest import metrics_of, run_python

from utils.config.loading import load_config
from utils.config.overrides import override
from utils.config.places import Place, Places
from utils.errors import ConfigError

BASE = {
    "seed": 0,
    "optimizer": {"type": "Adam", "args": {"lr": 0.1, "betas": [0.9, 0.99]}},
    "metrics": ["accuracy"],
    "trainer": {"type": "Trainer", "args": {"max_grad_norm": 1}, "epochs": 3, "early_stop": 2},
}


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Write files, load the last one; with its places."""
    monkeypatch.chdir(tmp_path)

    def load(**files):
        for name, content in files.items():
            path = tmp_path / f"{name.replace('__', '/')}.{'yaml' if isinstance(content, str) else 'json'}"
            path.parent.mkdir(exist_ok=True)
            path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1))
        places = Places()
        return load_config(path.relative_to(tmp_path), places), places

    return load


# ---- extends ----


def test_sections_are_merged_and_lists_replaced(load):
    own = {"extends": "base.json", "trainer": {"epochs": 5}, "metrics": [], "name": "own"}
    config, _ = load(base=BASE, own=own)
    assert config == BASE | {"metrics": [], "name": "own", "trainer": BASE["trainer"] | {"epochs": 5}}


def test_another_type_starts_with_fresh_args(load):
    sgd = {"type": "SGD", "args": {"momentum": 0.9}}
    assert load(base=BASE, own={"extends": "base.json", "optimizer": sgd})[0]["optimizer"] == sgd
    assert load(base=BASE, own={"extends": "base.json", "optimizer": "SGD"})[0]["optimizer"] == {
        "type": "SGD", "args": {},
    }  # fmt: skip
    trainer = load(base=BASE, own={"extends": "base.json", "trainer": {"type": "Mine"}})[0]["trainer"]
    assert trainer == BASE["trainer"] | {"type": "Mine", "args": {}}


def test_the_same_type_keeps_what_is_not_said(load):
    own = {"extends": "base.json", "optimizer": {"type": "Adam", "args": {"lr": 1}}}
    assert load(base=BASE, own=own)[0]["optimizer"]["args"] == {"lr": 1, "betas": [0.9, 0.99]}


def test_what_belonged_to_the_old_type_goes_with_it(load):
    """An interval, a pattern: but the run's settings stay, whatever the trainer is; and so do the places."""
    base = {
        "lr_scheduler": {"type": "StepLR", "interval": "step", "args": {"step_size": 9}},
        "model": {"type": "A", "args": {"x": 1}, "freeze": "old.*"},
    }
    own = {"extends": "base.json", "lr_scheduler": {"type": "ConstantLR"}, "model": "B"}
    config, places = load(base=base, own=own)
    assert config == {"lr_scheduler": {"type": "ConstantLR", "args": {}}, "model": {"type": "B", "args": {}}}
    assert {place.name.split(":")[0] for place in places.by_key.values()} == {"own.json"}
    changed = override(base, ["model.type=B"], places := Places({"model.args.x": Place("old")}))
    assert changed["model"] == {"type": "B", "args": {}} and list(places.by_key) == ["model.type"]


def test_null_takes_a_section_away(load):
    assert load(base=BASE, own={"extends": "base.json", "optimizer": None})[0]["optimizer"] is None


def test_several_and_chains_relative_to_each_file(load):
    config, places = load(
        deep__base=BASE,
        deep__middle={"extends": "base.json", "seed": 1},
        other="seed: 2\ntrainer: {epochs: 9}\n",
        own={"extends": ["deep/middle.json", "other.yaml"], "name": "own"},
    )
    assert (config["seed"], config["trainer"]["epochs"], config["name"]) == (2, 9, "own")
    assert config["optimizer"] == BASE["optimizer"]
    assert places.by_key["seed"].name == "other.yaml:1"
    assert places.by_key["trainer.epochs"].name == "other.yaml:2"
    assert places.by_key["optimizer.args.lr"].name == "deep/base.json:6"


def test_a_run_from_configs_in_yaml_that_extend_each_other(project):
    """And its saved config is JSON, whole, and runs by itself."""
    base = project.write_config()
    (project.folder / "own.yaml").write_text(
        f"extends: {base.name}\noptimizer: {{type: SGD, args: {{lr: 1e-2}}}}\nlr_scheduler: ~\n"
        "trainer:\n  monitor: off\n  early_stop: null\n"
    )
    run = project.train_with(project.folder / "own.yaml")
    saved = json.loads((run / "config.json").read_text())
    assert "extends" not in saved and saved["optimizer"]["args"] == {"lr": 0.01}
    assert saved["trainer"]["monitor"] == "off" and saved["lr_scheduler"] is None
    assert metrics_of(run) == metrics_of(project.train_with(run / "config.json"))


# ---- YAML ----


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("1E5", 1e5), (".5", 0.5), ("5.", 5.0), ("-3", -3), ("+3", 3), ("0", 0), ("-0.5e-2", -0.005),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None), ("NULL", None),
        ("off", "off"), ("on", "on"), ("yes", "yes"), ("no", "no"), ("y", "y"), ("tRUE", "tRUE"),
        ("010", "010"), ("0o17", "0o17"), ("0x1F", "0x1F"), ("0b1", "0b1"), ("1_000", "1_000"), ("1:30", "1:30"),
        ("2026-01-02", "2026-01-02"), ("2026-01-02 03:04:05", "2026-01-02 03:04:05"), ("=", "="),
        ('"5"', "5"), ("'true'", "true"), ("|-\n  5", "5"), ("min val_loss", "min val_loss"), ("1e", "1e"),
        ("[1, 1e-3, off]", [1, 0.001, "off"]), ("{on: 1, 2: off}", {"on": 1, "2": "off"}),
    ],
)  # fmt: skip
def test_what_a_value_of_yaml_is(load, text, value):
    found = load(own=f"name: {text}\n")[0]["name"]
    assert found == value and type(found) is type(value)


def test_the_same_config_in_both(load):
    text = "seed: 0\noptimizer:\n  type: Adam\n  args:\n    lr: 1.0e-1\n    betas: [0.9, 0.99]\nmetrics:\n- accuracy\n"
    text += "trainer: {type: Trainer, args: {max_grad_norm: 1}, epochs: 3, early_stop: 2}\n"
    assert load(own=text)[0] == load(base=BASE)[0] == BASE


def test_an_alias_is_what_it_stands_for(load):
    config, places = load(own="a: &x {lr: 1}\nb: *x\n")
    assert config == {"a": {"lr": 1}, "b": {"lr": 1}}
    assert places.by_key["b"].name == "own.yaml:2"


# ---- the environment ----


def test_the_environment_is_read_where_the_user_wrote_it(load, monkeypatch):
    for name, value in {"SIZE": "32", "FOLDER": "/data", "RATE": "1e-3", "NAME": "123"}.items():
        monkeypatch.setenv(name, value)
    config, _ = load(
        own={"a": ["${env:SIZE}", {"b": "${env:FOLDER}/x"}], "lr": "${env:RATE}", "key.dot": "${env:NAME}"}
    )
    assert config == {"a": [32, {"b": "/data/x"}], "lr": 0.001, "key.dot": 123}


def test_a_number_from_the_environment_is_text_where_text_belongs(project, monkeypatch):
    monkeypatch.setenv("RUN_NAME", "123")
    assert project.train(name="${env:RUN_NAME}").parent.name == "123"


def test_what_a_secret_variable_says_is_not_written(project, monkeypatch, write_into):
    import trainer.trainer as module

    class Reporting(module.Trainer):
        def __init__(self, *, headers: dict[str, str], **parts):
            super().__init__(**parts)

    write_into(module, Reporting)
    monkeypatch.setenv("API_TOKEN", "s3cr3t")
    settings = {"type": "Reporting", "args": {"headers": {"auth": "${env:API_TOKEN}"}}, "epochs": 1}
    run = project.train(trainer=settings)
    assert not [path for path in run.iterdir() if b"s3cr3t" in path.read_bytes()]
    assert "trainer.args.headers.auth: a secret, which no file keeps." in project.refused("-r", run)
    project.resume(run, "--set", "trainer.args.headers.auth=s3cr3t", "trainer.epochs=2")
    settings["args"]["headers"] = "${env:API_TOKEN}"
    assert "found <redacted>" in project.refused_config(trainer=settings)


def test_the_config_of_a_run_or_checkpoint_reads_nothing(project, monkeypatch):
    import test as test_script

    monkeypatch.setenv("HIDDEN", "8")
    run = project.train()
    config = json.loads((run / "config.json").read_text())
    config["model"]["args"]["hidden"] = "${env:HIDDEN}"
    (run / "config.json").write_text(json.dumps(config))
    message = "model.args.hidden: ${env:...} is read in a file that you give with -c only."
    assert message in project.refused("-r", run) and message in project.refused("-r", run, script=test_script)
    (run / "config.json").write_text(json.dumps({"extends": "/etc/passwd"}))
    assert "extends: is followed in a file that you give with -c only." in project.refused("-r", run)


@pytest.mark.parametrize("section", [{"extends": "/etc/passwd"}, {"name": "${env:HIDDEN}"}])
def test_the_config_inside_a_checkpoint_reads_nothing(project, monkeypatch, section):
    import test as test_script

    monkeypatch.setenv("HIDDEN", "8")
    checkpoint = read(project.train(trainer={"epochs": 1}) / "last.pth")
    torch.save({**checkpoint, "format": 1, "config": checkpoint["config"] | section}, project.folder / "other.pth")
    message = project.refused("-r", project.folder / "other.pth", script=test_script)
    assert "in a file that you give with -c only" in message and "root:" not in message, message


def test_nor_does_set(project):
    message = project.refused_config("--set", "name=${env:HOME}")
    assert message == "error: --set name=${env:HOME}: is not read here. Let the shell put it in: name=$NAME.\n"


# ---- what it costs ----


@pytest.mark.parametrize("content", ['{"name": "a",}', '{"optimiser": "Adam"}', "a: [", None])
def test_mistakes_at_the_top_show_without_torch(tmp_path, content):
    path = tmp_path / ("own.yaml" if content == "a: [" else "own.json")
    if content is not None:
        path.write_text(content)
    script = "import sys, train\nfrom utils.exit_codes import exit_code_of\n"
    script += "code = exit_code_of(lambda: train.main(sys.argv[1:]))\nsys.exit(9 if 'torch' in sys.modules else code)"
    assert run_python("-c", script, "-c", path).returncode == 2


def test_a_file_that_goes_round_is_told_with_its_chain(load):
    with pytest.raises(ConfigError, match="b.json:2: extends: goes round in circles: a.json -> b.json -> a.json."):
        load(b={"extends": "a.json"}, a={"extends": "b.json"})
