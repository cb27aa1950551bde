"""The tools of the command line, as a user calls them; what they find has tests of its own."""

import json

import pytest
import torch
from conftest import ROOT, metrics_of

import train as train_script
import trainer.trainer
from base.base_trainer import StepResult


def tool(project, *arguments, code=0, **sections):
    found, out, err = project.command(train_script, "-c", project.write_config(**sections), *arguments)
    assert found == code, out + err
    assert "Traceback" not in err
    return out if code == 0 else err


def files(project):
    return {path for path in project.folder.rglob("*") if path.is_file() and path.name != "config.json"}


class Accumulating(trainer.trainer.Trainer):
    """Forgets zero_grad."""

    def train_step(self, batch):
        inputs, targets = batch
        outputs = self.forward(inputs)
        loss = self.loss_fn(outputs, targets)
        loss.backward()
        self.optimizer.step()
        return StepResult({"loss": loss}, len(targets))


class Forgetful(trainer.trainer.Trainer):
    """Throws the gradients away before it uses them; or never uses them."""

    does_step = True

    def train_step(self, batch):
        inputs, targets = batch
        loss = self.loss_fn(self.forward(inputs), targets)
        loss.backward()
        self.optimizer.zero_grad()
        if self.does_step:
            self.optimizer.step()
        return StepResult({"loss": loss}, len(targets))


class Stepless(Forgetful):
    does_step = False


class LateFreezing(trainer.trainer.Trainer):
    """Freezes what the optimizer has already."""

    def __init__(self, **parts):
        super().__init__(**parts)
        self.model.fc1.requires_grad_(False)


def test_check_shows_a_table_and_writes_nothing(project):
    out = tool(project, "--check")
    for row in (
        "parameters ", "initial loss ", "without gradient ", "training samples ", "time of the run ", "peak memory ",
        "problems                   none",
    ):  # fmt: skip
        assert row in out
    assert files(project) == set()


@pytest.mark.parametrize(
    ("sections", "cls", "problem"),
    [
        ({}, Accumulating, "error: trainer.train_step: the gradients of one step reach the next. Call optimizer.zero_"),
        ({"loss": "cross_entropy"}, None, None),
        ({}, LateFreezing, "frozen"),
        ({}, Forgetful, "trainer.train_step: optimizers step without gradients. The order is zero_grad(), backward()"),
        ({}, Stepless, "trainer.train_step: no optimizer moves the weights. Call optimizer.step() after backward()."),
    ],
)
def test_check_names_the_common_mistakes(project, write_into, sections, cls, problem):
    if cls:
        write_into(trainer.trainer, cls)
        sections = sections | {"trainer": {"type": cls.__name__}}
    if problem is None:  # computes the same: told, and no mistake
        assert "log_softmax" in tool(project, "--check", **sections)
        return
    assert problem in tool(project, "--check", code=2, **sections)
    assert files(project) == set()


def test_check_names_softmax_twice(project, write_into):
    import model.model as module

    class Softmaxed(module.LeNet):
        def forward(self, images):
            return torch.softmax(super().forward(images), dim=1)

    write_into(module, Softmaxed)
    section = {"type": "Softmaxed", "args": {"num_classes": 10}}
    assert "softmax twice" in tool(project, "--check", code=2, model=section, loss="cross_entropy")
    assert "probabilities reach nll_loss" in tool(project, "--check", code=2, model=section)


def test_check_begins_with_the_config(project):
    assert "trainer.epochs: found 'ten'" in tool(project, "--check", "--set", "trainer.epochs=ten", code=2)


def test_the_printed_config_makes_the_same_run(project):
    path = project.folder / "printed.json"
    path.write_text(tool(project, "--print-config", "--lr", "0.5"))
    printed = json.loads(path.read_text())
    assert printed["optimizer"]["args"] == {"lr": 0.5} and printed["trainer"]["log_steps"] == 20
    assert files(project) == {path}
    assert metrics_of(project.train("--lr", "0.5")) == metrics_of(project.train_with(path))


@pytest.mark.parametrize("section", ["model", "dataset", "metrics", "init", "layer", "optimizer", "lr_scheduler"])
def test_list_prints_names_with_their_arguments(project, section):
    code, out, _ = project.command(train_script, "--list", section)
    expected = {
        "model": "  LeNet(num_classes, in_channels=1", "dataset": "  Digits(train_transform=())",
        "metrics": "  top_k_accuracy(k=3)", "init": "  xavier_normal_(gain=1.0", "layer": "  LeakyReLU(negative_slope=",
        "optimizer": "  SGD(lr=0.001, momentum=0", "lr_scheduler": "  StepLR(step_size, gamma=0.1",
    }[section]  # fmt: skip
    assert code == 0 and any(line.startswith(expected) for line in out.splitlines())


def test_list_of_no_section(project):
    code, _, err = project.command(train_script, "--list", "optimiser")
    assert (code, err) == (2, "error: --list optimiser: no such section. Closest match: optimizer.\n")


def test_overfit_says_whether_it_came_near_zero(project):
    assert "overfit: 2 batches, 128 samples: loss " in tool(project, "--overfit", "2", "--lr", "0.01")
    assert "near zero is" in tool(project, "--overfit", "1", "--lr", "0", code=1)
    assert files(project) == set()


@pytest.mark.parametrize("arguments", [["--overfit", "1"], ["--profile"], ["--check"]])
def test_a_tool_refuses_what_a_run_refuses(project, arguments):
    model = {"type": "LeNet", "args": {"num_classes": 3}}
    assert "The first valid batch fails." in tool(project, *arguments, code=2, model=model, metrics=[])
    assert files(project) == set()


def test_fast_dev_run_leaves_nothing(project):
    assert tool(project, "--fast-dev-run").endswith("Fast dev run: every part works. What it wrote is deleted.\n")
    assert files(project) == set()


def test_profile_leaves_a_trace(project):
    assert "train_step" in tool(project, "--profile")
    (trace,) = files(project)
    assert trace.parent.name == "profile" and trace.name.endswith(".pt.trace.json.gz")
    tool(project, "-r", "auto", "--set", "trainer.epochs=1")  # what is no run is passed over


def test_limit_batches_is_a_setting_of_the_run(project):
    run = project.train("--limit-batches", "2")
    assert [line["step"] for line in metrics_of(run)] == [2, 4]
    saved = json.loads((run / "config.json").read_text())["trainer"]
    assert saved["epoch_steps"] == saved["valid_steps"] == 2
    assert (
        "--limit-batches: found 'x'. Write a whole number of at least 1 and below a billion."
        in project.refused_config("--limit-batches", "x")
    )


def test_anomaly_names_the_line(project, write_into):
    import model.model as module

    class Rooted(module.LeNet):
        def forward(self, images):
            zeros = 0 * super().forward(images)
            return torch.log_softmax(zeros.sqrt(), dim=1)  # the slope of the root at 0 is infinite

    write_into(module, Rooted)
    err = tool(project, "--anomaly", code=2, model={"type": "Rooted", "args": {"num_classes": 10}})
    assert "in the backward pass: Function 'MulBackward0' returned nan values" in err and "test_tools.py" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--check", "--profile"], "not allowed with argument"),
        (["--overfit", "0"], "argument --overfit: found '0'. Write a whole number of at least 1 and below a billion."),
        (["--check", "-r", "auto"], "argument --check: needs -c/--config alone"),
        (["--overfit", "1", "-r", "auto"], "argument --overfit: needs -c/--config alone"),
    ],
)
def test_what_does_not_go_together(project, arguments, message):
    assert message in project.refused("-c", ROOT / "config.json", *arguments)
