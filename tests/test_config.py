"""A config that does not fit the code is refused before anything is made, with every mistake at once."""

import json

import pytest
from conftest import metrics_of

import train as train_script


def lines(message):
    return [line.removeprefix("error: ") for line in message.splitlines()]


def test_short_options_and_set_reach_the_run(project):
    run = project.train("--lr", "0.5", "--bs", "100", "--set", "trainer.epochs=1", "optimizer=SGD", lr_scheduler=None)
    saved = json.loads((run / "config.json").read_text())
    assert saved["optimizer"] == {"type": "SGD", "args": {"lr": 0.5}, "groups": None}
    assert saved["data_loader"]["batch_size"] == 100
    assert [(line["lr"], line["step"]) for line in metrics_of(run)] == [(0.5, 13)]


def test_the_saved_config_says_what_was_left_to_defaults(project):
    saved = json.loads((project.train() / "config.json").read_text())
    assert saved["trainer"]["log_steps"] == 20 and saved["trainer"]["epoch_steps"] is None
    assert saved["loss"] == {"type": "nll_loss", "args": {}}


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
        ("model", "saved.stranger.Net"),
        ("model", "model..LeNet"),
        ("model", "model.model.F"),
        ("model", "../model.LeNet"),
    ],
)
def test_a_name_reaches_nothing_of_another_kind(project, section, name):
    change = {section: {"type": name, "args": {}}}
    assert f"{section}.type: " in project.refused_config(**change)


def test_a_module_that_needs_what_is_not_installed_says_so(project, monkeypatch):
    import utils.config.lookup as lookup

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


def test_arguments_that_a_class_passes_on_are_those_of_its_base(project, write_into):
    """`hidden` is LeNet's; `num_classes` the class gives itself, so that it is not missing."""
    import model.model as module

    class TenClasses(module.LeNet):
        def __init__(self, **kwargs):
            super().__init__(num_classes=10, **kwargs)

    write_into(module, TenClasses)
    project.train("--set", "trainer.epochs=1", model={"type": "TenClasses", "args": {"hidden": 8}})
    message = project.refused_config(model={"type": "TenClasses", "args": {"hiden": 8}})
    assert "model.args.hiden: TenClasses takes no such argument. Closest match: hidden." in message


def test_a_trainer_needs_no_type_and_a_nested_sampler_is_built(project):
    config = json.loads(project.write_config().read_text())
    del config["trainer"]["type"], config["trainer"]["args"]
    nested = {"sampler": {"type": "SequentialSampler"}, "drop_last": False}
    config["data_loader"] = {"batch_size": 64, "batch_sampler": {"type": "BatchSampler", "args": nested}}
    path = project.folder / "less.json"
    path.write_text(json.dumps(config))
    code, out, err = project.command(train_script, "-c", path)
    assert code == 0, out + err


def test_a_change_that_cannot_be_is_refused_before_data_are_read(project):
    run = project.train()
    message = project.refused("-r", run, "--set", "dataset=FashionMNIST")
    assert "dataset.type: cannot change when a run is resumed" in message
