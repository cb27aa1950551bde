"""A config that does not fit the code is refused before anything is made, with every mistake at once."""

import json

import pytest
from conftest import metrics_of

from utils.config import changed_keys, load_config, override
from utils.errors import ConfigError, UserError


def lines(message):
    return [line.removeprefix("error: ") for line in message.splitlines()]


# ---- reading ----


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"name": "a",}', "bad.json:1:14: not JSON: "),
        ('{\n  "seed": 0\n  "n_gpu": 1\n}', "bad.json:3:3: not JSON: Expecting ',' delimiter."),
        ("[1]", "bad.json: a config is a JSON object, found list."),
        ('{"seed": 0, "model": {"type": "A", "type": "B"}}', "bad.json: the key 'type' stands twice in one object."),
        ("[" * 100_000, "bad.json: nested too deeply."),
        ("", "bad.json:1:1: not JSON: Expecting value."),
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


def test_bytes_that_are_no_text(project):
    path = project.folder / "bytes.json"
    path.write_bytes(b"\xff\xfe\x00")
    assert "bytes.json: cannot be read as a config" in project.refused("-c", path)


def test_a_byte_order_mark_is_read_over(tmp_path):
    (tmp_path / "windows.json").write_bytes(b'\xef\xbb\xbf{"seed": 1}')
    assert load_config(tmp_path / "windows.json") == {"seed": 1}


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
        ("metrics=[]", "metrics", []),
        ("lr_scheduler.type=StepLR", "lr_scheduler", {"type": "StepLR"}),
        ("optimizer=null", "optimizer", None),
        ("seed=None", "seed", None),
        ("n_gpu=true", "n_gpu", True),
        ("name=a=b", "name", "a=b"),
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


def test_short_options_and_set_reach_the_run(project):
    run = project.train("--lr", "0.5", "--bs", "100", "--set", "trainer.epochs=1", "optimizer=SGD", lr_scheduler=None)
    saved = json.loads((run / "config.json").read_text())
    assert saved["optimizer"] == {"type": "SGD", "args": {"lr": 0.5}}
    assert saved["data_loader"]["batch_size"] == 100
    assert [(line["lr"], line["step"]) for line in metrics_of(run)] == [(0.5, 13)]


def test_the_saved_config_says_what_was_left_to_defaults(project):
    saved = json.loads((project.train() / "config.json").read_text())
    assert saved["trainer"]["log_steps"] == 20 and saved["trainer"]["epoch_steps"] is None
    assert saved["loss"] == {"type": "nll_loss", "args": {}}


# ---- checking ----


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"trainer": {"early_stpo": 3}}, "trainer.early_stpo: unknown key. Closest match: early_stop."),
        ({"trainer": {"save_perid": 3}}, "trainer.save_perid: unknown key. Closest match: save_period."),
        ({"optimiser": "Adam"}, "optimiser: unknown key. Closest match: optimizer."),
        ({"arch": {"type": "LeNet"}}, "arch: It is named 'model' here."),
        (
            {"trainer": {"verbosity": 2}},
            "trainer.verbosity: There is no such setting here; the log file has everything.",
        ),
        ({"trainer": {"len_epoch": 2}}, "trainer.len_epoch: It is named 'epoch_steps' here."),
        ({"model": {"type": "LeNett"}}, "model.type: no 'LeNett' here. Closest match: LeNet."),
        ({"model": {"type": "LeNet"}}, "model.args.num_classes: missing; LeNet requires it."),
        (
            {"model": {"type": "LeNet", "args": {"num_classes": 10, "hiden": 3}}},
            "model.args.hiden: LeNet takes no such argument. Closest match: hidden.",
        ),
        ({"model": {"type": "LeNet", "arg": {"num_classes": 10}}}, "model.arg: unknown key. Closest match: args."),
        ({"model": {"type": "LeNet", "args": [10]}}, "model.args: found [10]. Write an object: {...}."),
        (
            {"model": {"args": {}}},
            'model: found {\'args\': {}}. Name a torch.nn.Module class as {"type": NAME, "args": {...}}.',
        ),
        (
            {"dataset": {"type": "Digits", "args": {"split": "test"}}},
            "dataset.args.split: Digits takes no such argument.",
        ),
        ({"optimizer": {"type": "Adamm", "args": {}}}, "optimizer.type: no 'Adamm' here. Closest match: Adam."),
        ({"optimizer": {"type": "SGD", "args": {"params": []}}}, "optimizer.args.params: SGD takes no such argument."),
        (
            {"optimizer": {"type": "Adam", "args": {"lr": -1}}},
            "optimizer.args: Adam refuses them: Invalid learning rate: -1.",
        ),
        ({"optimizer": None}, "optimizer: missing; Trainer takes a optimizer."),
        ({"loss": "nl_loss"}, "loss.type: no 'nl_loss' here. Closest match: nll_loss."),
        ({"loss": None}, "loss: missing; Trainer takes a loss_fn."),
        ({"metrics": "accuracy"}, "metrics: found 'accuracy'. Write a list of names or sections."),
        ({"metrics": ["acuracy"]}, "metrics.0.type: no 'acuracy' here. Closest match: accuracy."),
        ({"metrics": ["accuracy", "accuracy"]}, "metrics.1: the name 'accuracy' is taken. Give it another one: "),
        ({"lr_scheduler": {"type": "StepLR"}}, "lr_scheduler.args.step_size: missing; StepLR requires it."),
        (
            {"lr_scheduler": {"type": "StepLR", "interval": "batch", "args": {"step_size": 1}}},
            "lr_scheduler.interval: found 'batch'. Choices: epoch, step.",
        ),
        (
            {"lr_scheduler": {"type": "SequentialLR", "args": {"milestones": [1], "schedulers": [{"type": "Linear"}]}}},
            "lr_scheduler.args.schedulers.0.type: no 'Linear' here. Closest match: LinearLR.",
        ),
        ({"data_loader": {"batchsize": 3}}, "data_loader.batchsize: unknown key. Closest match: batch_size."),
        ({"data_loader": 64}, "data_loader: found 64. Write an object: {...}."),
        ({"trainer": {"type": "Trainr"}}, "trainer.type: no 'Trainr' here. Closest match: Trainer."),
        ({"trainer": {"epochs": "ten"}}, "trainer.epochs: found 'ten'. Write a whole number of at least 1."),
        ({"trainer": {"epochs": 0}}, "trainer.epochs: found 0. Write a whole number of at least 1."),
        ({"trainer": {"early_stop": 0}}, "trainer.early_stop: found 0. Write a whole number of at least 1 or null."),
        (
            {"trainer": {"keep_last": True}},
            "trainer.keep_last: found True. Write a whole number of at least 0 or null.",
        ),
        ({"trainer": {"min_delta": -1}}, "trainer.min_delta: found -1. Write a number of at least 0."),
        ({"trainer": {"tensorboard": "yes"}}, "trainer.tensorboard: found 'yes'. Write true or false."),
        (
            {"trainer": {"monitor": "val_loss"}},
            "trainer.monitor: 'val_loss' is no rule. Choices: 'min NAME', 'max NAME', 'off'.",
        ),
        (
            {"trainer": {"args": {"max_norm": 1}}},
            "trainer.args.max_norm: Trainer takes no such argument. Closest match: max_grad_norm.",
        ),
        ({"seed": -1}, "seed: found -1. Write a whole number of at least 0."),
        ({"n_gpu": "all"}, "n_gpu: found 'all'. Write a whole number of at least 0."),
        ({"name": "../../x"}, "name: '../../x' cannot be a folder."),
        ({"name": ""}, "name: '' cannot be a folder."),
        ({"name": "a\u0000b"}, "name: 'a\\x00b' cannot be a folder."),
    ],
)
def test_a_mistake_is_named_with_its_place_and_the_closest_match(project, sections, message):
    assert any(line.startswith(message) for line in lines(project.refused_config(**sections)))


def test_all_mistakes_are_reported_at_once(project):
    message = project.refused_config(
        optimiser="Adam", model="LeNett", metrics=["acuracy"], trainer={"epochs": 0, "early_stpo": 1}
    )
    assert len(lines(message)) == 5


@pytest.mark.parametrize("section", ["name", "model", "dataset", "data_loader", "trainer"])
def test_a_section_that_must_be_there(project, section):
    config = json.loads(project.write_config().read_text())
    del config[section]
    path = project.folder / "less.json"
    path.write_text(json.dumps(config))
    assert f"{section}: missing." in lines(project.refused("-c", path))


# ---- what a name can reach ----


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ("model", "os.system"),
        ("model", "subprocess.run"),
        ("model", "builtins.eval"),
        ("model", "torch.hub.load"),
        ("model", "hub.load"),
        ("model", "Tensor"),
        ("model", "F"),
        ("model", "nn"),
        ("loss", "functional.torch.hub.load"),
        ("loss", "Linear"),
        ("loss", "relu"),
        ("loss", "os.system"),
        ("optimizer", "Optimizer"),
        ("lr_scheduler", "LRScheduler"),
        ("optimizer", "os.system"),
        ("lr_scheduler", "Adam"),
        ("dataset", "BaseDataset"),
        ("dataset", "UserError"),
        ("trainer", "BaseTrainer"),
        ("model", "tests.conftest.load"),
        ("model", "model..LeNet"),
        ("model", "model.model.F"),
        ("model", "../model.LeNet"),
    ],
)
def test_a_name_reaches_nothing_of_another_kind(project, section, name):
    change = {section: {"type": name, "args": {}}}
    assert f"{section}.type: " in project.refused_config(**change)


def test_a_module_that_needs_what_is_not_installed_says_so(project, monkeypatch):
    import utils.lookup as lookup

    (project.folder / "extra_model.py").write_text("import a_package_that_nobody_has")
    monkeypatch.setattr(lookup, "PROJECT_ROOT", project.folder)
    monkeypatch.syspath_prepend(project.folder)
    message = project.refused_config(model="extra_model.Net")
    assert (
        "model.type: 'extra_model.Net': extra_model needs a package that is not installed: a_package_that_nobody_has."
        in message
    )


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("loss", "CrossEntropyLoss"),
        ("loss", {"type": "cross_entropy", "args": {"label_smoothing": 0.1}}),
        ("loss", {"type": "NLLLoss", "args": {}}),
        ("model", {"type": "model.model.LeNet", "args": {"num_classes": 10, "hidden": 8}}),
        ("optimizer", {"type": "RMSprop", "args": {"lr": 0.001}}),
        ("metrics", [{"type": "top_k_accuracy", "args": {"k": 2}, "name": "top2"}, "top_k_accuracy"]),
        ("metrics", []),
    ],
)
def test_names_of_the_project_and_of_the_libraries(project, section, value):
    project.train("--set", "trainer.epochs=1", **{section: value})
