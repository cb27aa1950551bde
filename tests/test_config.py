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
        ({"optimizer": None}, "optimizer: missing; Trainer needs one."),
        ({"loss": "nl_loss"}, "loss.type: no 'nl_loss' here. Closest match: nll_loss."),
        ({"loss": None}, "loss: missing; Trainer needs one."),
        ({"metrics": "accuracy"}, "metrics: found 'accuracy'. Write a list of names or sections."),
        ({"metrics": ["acuracy"]}, "metrics.0.type: no 'acuracy' here. Closest match: accuracy."),
        ({"metrics": ["accuracy", "accuracy"]}, "metrics.1: the name 'accuracy' is taken. Give it another one: "),
        ({"metrics": [{"type": "accuracy", "name": "val_loss"}]}, "metrics.0: the name 'val_loss' is taken."),
        ({"metrics": [{"type": "accuracy", "name": "epoch"}]}, "metrics.0: the name 'epoch' is taken."),
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
        ({"trainer": {"valid_steps": 0}}, "trainer.valid_steps: found 0. Write a whole number of at least 1 or null."),
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
