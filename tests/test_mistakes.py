"""Mistakes in a person's own code: a few lines with the place and what to write, the right exit code, no traceback."""

import importlib
import linecache

import pytest
from conftest import ROOT

import train as train_script

IMPORTS = "import torch\nfrom torch import nn\nfrom torch.nn import functional as F\n"  # three lines before each source
FILES = {
    "model": "model.model",
    "loss": "model.loss",
    "metric": "model.metric",
    "dataset": "data_loader.datasets",
    "trainer": "trainer.trainer",
}
MODEL = """class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 10)

    def forward(self, inputs):
"""  # the next line is line 10 of its file
DATA = """class Mine(torch.utils.data.Dataset):
    def __init__(self, split):
        self.inputs = torch.randn(64, 1, 8, 8)

    def __len__(self):
        return 64

    def __getitem__(self, index):
"""  # the next line is line 12
TRAINER = "class Mine(Trainer):\n"  # the next line is line 5
LOGITS = "        return self.fc(inputs.flatten(1))\n"


@pytest.fixture
def mistake(project, monkeypatch):
    """Write a source into a file of the project, name it in the config, and train: exit code, stdout and stderr."""

    def make(section, source, **sections):
        module = importlib.import_module(FILES[section])
        path = (ROOT / FILES[section].replace(".", "/")).with_name("mine.py")
        text = IMPORTS + source
        monkeypatch.setitem(linecache.cache, str(path), (len(text), None, text.splitlines(True), str(path)))
        namespace = dict(vars(module))
        exec(compile(text, str(path), "exec"), namespace)  # noqa: S102
        monkeypatch.setattr(module, "Mine", namespace["Mine"], raising=False)
        value = {"trainer": {"type": "Mine"}, "metric": ["Mine"]}.get(section, "Mine")
        loader = {"data_loader": {"batch_size": 256}}
        config = project.write_config(**loader | {"metrics" if section == "metric" else section: value} | sections)
        return project.command(train_script, "-c", config)

    return make


def forward(line):
    return "model", f"{MODEL}        {line}\n"


def sample(line):
    return "dataset", f"{DATA}        {line}\n"


def method(lines):
    return "trainer", TRAINER + "".join(f"    {line}\n" for line in lines.split("\n"))


def function(section, *lines):
    return section, "\n".join(["def Mine(output, target):", *(f"    {line}" for line in lines), ""])


def metric_object(line):
    methods = (f"    def {name}:\n        {line}\n" for name in ("update(self, output, target)", "reset(self)"))
    return "metric", f"class Mine:\n{''.join(methods)}    def compute(self):\n        return self.total / 0\n"


BEFORE = [  # what is written, and what is said of it, in this order
    (forward("return self.fcc(inputs)"), "no attribute 'fcc'", "model/mine.py:10: return self.fcc(inputs)"),
    (forward("return F.log_softmax(hiden)"), "NameError: name 'hiden'", "model/mine.py:10"),
    (forward("raise ValueError('bad ' * 400)"), "ValueError: bad bad", "...", "model/mine.py:10"),
    (forward("raise ValueError('bad\\n' * 90)"), "ValueError: bad bad", "model/mine.py:10", "The batch: (float32"),
    (forward("raise RuntimeError"), "fails. RuntimeError\n", "model/mine.py:10"),
    (forward("return self.fc(inputs)"), "model/mine.py:10", "takes 64 features and gets 8: write in_features=8"),
    (forward("return self.fc(inputs.flatten(1)), inputs"), "The loss gets from the model (float32", "Return one"),
    (forward("self.fc(inputs.flatten(1))"), "The loss gets from the model None: does forward return its result?"),
    (forward("return self.fc(inputs.flatten(1)).detach().numpy()"), "from the model float32 (179, 10). Return one"),
    (forward("return self.fc(inputs.flatten(1))[:5]"), "The model must return one row for each sample"),
    (("model", MODEL.replace("forward(self, ", "forward(") + LOGITS), "mine.py:9: def forward(inputs)", "The batch"),
    (("model", MODEL.replace("forward", "foward") + LOGITS), "Mine.foward is never called. Rename it: def forward("),
    (("model", MODEL + LOGITS + "    def training_step(self, batch): ..."), "Mine.training_step is never called."),
    (("model", MODEL.replace("super().__init__()", "pass") + LOGITS), "Mine cannot be made", "(model/mine.py:7)"),
    (("model", MODEL.replace("= nn.Linear(64, 10)", "= [nn.Linear(64, 10)]") + LOGITS), "has no parameters. Put"),
    (("model", "def Mine() -> nn.Module:\n    nn.Linear(64, 10)\n"), "model.type: Mine returns None. Return what"),
    (("model", "class Mine:\n    pass\n"), "'Mine' is not a torch.nn.Module class"),
    (function("loss", "return F.nll_loss(output, target).item()"), "trainer/trainer.py", "Return a tensor: without"),
    (function("loss", "return F.nll_loss(output.detach(), target)"), "remove .detach(), argmax, torch.no_grad()"),
    (function("loss", "return F.nll_loss(output, target).numpy()"), "model/mine.py:5", "NumPy keeps no gradients"),
    (function("loss", "return F.mse_loss(output, target)"), "model/mine.py:5", "For class numbers, use cross_entropy."),
    (function("metric", "(output.argmax(1) == target).float().mean()"), "metric 'Mine' is None. Return a number"),
    (function("metric", "return outputs"), "NameError: name 'outputs'", "model/mine.py:5: return outputs"),
    (("metric", "def Mine(output):\n    return 0.0\n"), "'Mine' is not a metric: a function of (output, target)"),
    (metric_object("pass"), "AttributeError: 'Mine' object has no attribute 'total'", "model/mine.py:10"),
    (sample("return {'x': self.inputs[index], 'y': 1}"), "a dict with x", "Return (inputs, targets) from the data"),
    (sample("return self.inputs[index].double(), 1"), "Return float32 from the data set: .float()"),
    (sample("return self.inputs[index], torch.tensor([1])"), "For (B, 1) write targets.squeeze(1)"),
    (sample("return self.inputs[index], 1.5"), "Class numbers are int64 with the shape (B,). Return them"),
    (sample("return self.inputs[index], 'cat'"), "Return numbers, not names, from the data set."),
    (sample("return self.inputs[index], index % 10 + 1"), "In the data set, subtract 1."),
    (sample("return self.inputs[index], index % 10 - 1"), "In the data set, add 1."),
    (sample("return self.input[index], 1"), "no attribute 'input'", "data_loader/mine.py:12"),
    (("dataset", f"{DATA}        pass\n\n    def collate(self, samples): ..."), "Mine.collate returns None. Return"),
    (("dataset", DATA.replace("__getitem__", "get_item") + "        pass"), "Rename it: def __getitem__(self, index)."),
    (method("def train_step(self): ..."), "Mine.train_step takes other arguments. Write def train_step(self, batch)."),
    (method("def train_step(self, batch):\n    return StepResult([1], 1)"), "the means are a list. Return StepResult("),
    (method("def stateful(self): ..."), 'Mine.stateful returns a NoneType. Return a dict: {"model": self.model'),
    (method("def stateful(self):\n    return {'model': 5}"), "'model' is a int. Put an object with state_dict()"),
    (method("def stateful(self):\n    return self.parts_of"), "Mine.stateful fails.", "trainer/mine.py:6"),
    (method("def on_epoch_end(self): ..."), "Mine.on_epoch_end takes other arguments. Write def on_epoch_end(self, va"),
    (method("def __init__(self, run, model):\n    self.model = model"), "mine.py:5: call super().__init__(...) in"),
    (method("def training_step(self, batch): ..."), "Mine.training_step is never called. Rename it: def train_step("),
    (method("def _train_epoch(self, epoch): ..."), "Mine._train_epoch is never called. Rename it: def train_step("),
    (method("def on_epoch_ends(self, values): ..."), "is never called. Rename it: def on_epoch_end(self, values)."),
    (method("def configure_optimizers(self): ..."), "Write its content in the config's sections optimizer and lr_sch"),
    (method("def evaluate(self, split): ..."), "Mine.evaluate replaces a method of the run"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "said"), [(written, said) for written, *said in BEFORE])
def test_a_mistake_before_the_run_is_a_few_lines_and_leaves_nothing(mistake, project, written, said):
    leaves_out = {"loss": None, "optimizer": None, "lr_scheduler": None} if "__init__(self, run" in written[1] else {}
    code, out, err = mistake(*written, **leaves_out)
    assert code == 2 and project.run_dirs() == [], out + err
    assert "Traceback" not in out + err and len(err.splitlines()) <= 6 and max(map(len, err.splitlines())) < 420, err
    places = [err.replace("error: ", "").find(text) for text in said]
    assert -1 not in places and places == sorted(places), err


IN_THE_RUN = [
    (method("def valid_step(self, batch):\n    return self.x if self.epoch > 1 else super().valid_step(batch)"), "x"),
    (method("def on_epoch_end(self, values):\n    values['x'] = 1 / (2 - self.epoch)"), "ZeroDivisionError"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "said"), IN_THE_RUN)
def test_a_mistake_that_comes_in_epoch_2_leaves_the_first_one_and_its_traceback_in_the_log(
    mistake, project, written, said
):
    code, out, err = mistake(*written)
    (run,) = project.run_dirs()
    assert code == 1 and "Traceback" not in out + err and len(err.splitlines()) <= 6, err
    assert said in err and "trainer/mine.py:6: " in err
    assert "Traceback" in (run / "train.log").read_text() and (run / "last.pth").is_file()


WARNED = [
    (forward("return self.fc(inputs.flatten(1))"), "nll_loss", "what reaches nll_loss are no log-probabilities"),
    (forward("return self.fc(inputs.flatten(1)).softmax(1)"), "cross_entropy", "softmax twice"),
    (function("loss", "return ((output[:, :1] - target.float()) ** 2).mean()"), "Mine", "(256, 1) and targets (256,)"),
    (function("metric", "return (output[:, :1] == target).float().mean()"), "nll_loss", "fit only by broadcasting"),
    (
        method(
            "def train_step(self, batch):\n    loss = self.loss_fn(self.forward(batch[0]), batch[1])\n"
            "    self.optimizer.step()\n    return StepResult({'loss': loss}, 256)"
        ),
        "nll_loss",
        "no parameter gets a gradient in the first step. Call loss.backward()",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("written", "loss", "said"), WARNED)
def test_what_trains_badly_is_a_warning_of_every_run(mistake, written, loss, said):
    source = ("model", written[1]) if written[0] == "model" else written
    code, out, err = mistake(*source, loss=loss, metrics=["Mine"] if written[0] == "metric" else [])
    assert code == 0 and said in out, out + err


FINE = ["def helper(self): ...", "def generator_step(self, batch): ...", "def training_stats(self): ..."]
FINE += [
    "def val_step(self): ...\n\ndef train_step(self, batch):\n    self.val_step()\n    return super().train_step(batch)"
]


@pytest.mark.parametrize("source", FINE)
def test_methods_that_are_called_or_like_none_are_left_alone(mistake, source):
    code, out, err = mistake(*method(source), trainer={"type": "Mine", "epochs": 1})
    assert code == 0, out + err
