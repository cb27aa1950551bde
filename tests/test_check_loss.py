"""What a check says about outputs that do not suit the loss."""

import math

import pytest
import torch
from checking import WithClosure
from torch import nn
from torch.nn import functional as F

import data_loader.datasets
import model.loss
import model.metric
import model.model
import trainer.trainer
from base.checks.check_loss import LossCalls
from logger.means import StepResult

PLAIN = {"metrics": [], "lr_scheduler": None}


class Ending(nn.Module):
    """A linear model with something behind it."""

    def __init__(self, end: str = "logits", classes: int = 10):
        super().__init__()
        self.linear = nn.Linear(64, classes)
        self.end = {
            "logits": nn.Identity(),
            "softmax": nn.Softmax(dim=1),
            "log_softmax": nn.LogSoftmax(dim=1),
            "sigmoid": nn.Sigmoid(),
        }[end]

    def forward(self, inputs):
        return self.end(self.linear(inputs.flatten(1)))


class Still(Ending):
    """Outputs of 0 at first, so that a softmax of them is constant."""

    def __init__(self, end: str = "logits", value: float = 0.0):
        super().__init__(end)
        nn.init.zeros_(self.linear.weight)
        nn.init.constant_(self.linear.bias, value)


TWICE = (
    "trainer.train_step: softmax twice: it stands before cross_entropy, which has one inside. Leave it out of the "
    "model, whose outputs must be logits."
)
PROBABILITIES = (
    "trainer.train_step: probabilities reach nll_loss, which takes their logarithms. Write log_softmax in the place of "
    "softmax."
)
LOGITS = (
    "trainer.train_step: what reaches nll_loss are no log-probabilities: their exponentials do not sum to 1. Write "
    "log_softmax at the model's end, or cross_entropy in the place of nll_loss."
)


@pytest.mark.parametrize(
    ("end", "loss", "expected"),
    [
        ("softmax", "cross_entropy", [TWICE]),
        ("softmax", "CrossEntropyLoss", [TWICE]),
        ("softmax", {"type": "cross_entropy", "args": {"label_smoothing": 0.1}}, [TWICE]),
        ("softmax", "nll_loss", [PROBABILITIES]),
        ("softmax", "NLLLoss", [PROBABILITIES]),
        ("logits", "nll_loss", [LOGITS]),
        ("sigmoid", "nll_loss", [LOGITS]),
        ("logits", "cross_entropy", []),
        ("sigmoid", "cross_entropy", []),
        ("log_softmax", "nll_loss", []),
    ],
)
@pytest.mark.parametrize("network", [Ending, Still])
def test_outputs_that_do_not_suit_the_loss_are_named(look, write_into, network, end, loss, expected):
    write_into(model.model, network)
    rows, problems = look(model={"type": network.__name__, "args": {"end": end}}, loss=loss, **PLAIN)
    assert problems == expected and "note" not in rows
    assert f"ln 10 = {math.log(10):.4f} by chance" in rows["initial loss"]


def test_a_loss_within_a_closure_is_checked(look, write_into):
    write_into(model.model, Ending)
    write_into(trainer.trainer, WithClosure)
    network = {"type": "Ending", "args": {"end": "softmax"}}
    sections = PLAIN | {"optimizer": {"type": "LBFGS", "args": {"max_iter": 2}}, "trainer": {"type": "WithClosure"}}
    assert TWICE in look(model=network, loss="cross_entropy", **sections)[1]


def test_it_does_not_see_what_an_optimizer_reads_of_each_parameter(monkeypatch):
    calls = []
    original = LossCalls.__torch_function__
    monkeypatch.setattr(LossCalls, "__torch_function__", lambda self, *args: calls.append(0) or original(self, *args))

    def calls_of_step(count):
        parameters = [nn.Parameter(torch.ones(2)) for _ in range(count)]
        optimizer = torch.optim.Adam(parameters)
        torch.stack(parameters).sum().backward()
        with LossCalls(None):
            calls.clear()
            optimizer.step()
            seen = len(calls)
            parameters[0].relu()
            assert len(calls) == seen + 1
        return seen

    assert calls_of_step(3) == calls_of_step(30)


def test_log_softmax_before_cross_entropy_is_noted(look):
    rows, problems = look(loss="cross_entropy")
    assert problems == [] and rows["note"] == (
        "log_softmax stands before cross_entropy, which has one inside: the result is the same, and one of them can "
        "go, or cross_entropy can be nll_loss"
    )


def perplexity(output, target):
    return F.cross_entropy(output.exp(), target).exp()


def test_a_metric_is_no_loss(look, monkeypatch):
    monkeypatch.setattr(perplexity, "__module__", "model.metric")
    monkeypatch.setattr(model.metric, "perplexity", perplexity, raising=False)
    rows, problems = look(metrics=["perplexity"])
    assert problems == [] and rows["initial loss"].startswith("nll_loss ")


@pytest.mark.parametrize("value", [0.1, -math.log(10)])
def test_constant_logits_that_happen_to_be_probabilities_are_no_softmax(look, write_into, value):
    write_into(model.model, Still)
    rows, problems = look(model={"type": "Still", "args": {"value": value}}, loss="cross_entropy", **PLAIN)
    assert problems == [] and "note" not in rows


def binary(output, target):
    return F.binary_cross_entropy_with_logits(output.view(-1)[: len(target)], (target > 4).float())


@pytest.mark.parametrize(("end", "bias"), [("sigmoid", 0.0), ("logits", 0.5)])
def test_a_sigmoid_before_a_loss_that_has_one_is_named(look, write_into, monkeypatch, end, bias):
    class Barely(Ending):
        """Logits near the bias: between 0 and 1, as those of many an untrained model."""

        def __init__(self):
            super().__init__(end)
            nn.init.uniform_(self.linear.weight, -0.001, 0.001)
            nn.init.constant_(self.linear.bias, bias)

    write_into(model.model, Barely)
    monkeypatch.setattr(binary, "__module__", "model.loss")
    monkeypatch.setattr(model.loss, "binary", binary, raising=False)
    rows, problems = look(model="Barely", loss="binary", **PLAIN)
    assert rows["initial loss"].endswith("; ln 2 = 0.6931 by chance")
    assert problems == (end == "sigmoid") * [
        "trainer.train_step: a sigmoid stands before binary_cross_entropy_with_logits, which has one inside. Leave it "
        "out, or write binary_cross_entropy."
    ]


def test_a_cross_entropy_over_one_class_is_named(look, write_into):
    class Zeros(data_loader.datasets.Digits):
        def __init__(self, split):
            super().__init__(split)
            self.targets = torch.zeros_like(self.targets)

    write_into(model.model, Ending)
    write_into(data_loader.datasets, Zeros)
    args = {"end": "logits", "classes": 1}
    _, problems = look(model={"type": "Ending", "args": args}, loss="cross_entropy", dataset="Zeros", **PLAIN)
    assert problems == [
        "trainer.train_step: cross_entropy over one class is 0 whatever the model says. Give the model an output for "
        "each class, or write binary_cross_entropy_with_logits."
    ]


class Soft(trainer.trainer.Trainer):
    """Dense outputs (B, 10, 2, 2), targets that are probabilities, a loss that the step calls by itself."""

    def train_step(self, batch):
        inputs, targets = batch
        self.optimizer.zero_grad()
        outputs = self.forward(inputs)[:, :, None, None].expand(-1, -1, 2, 2)
        probabilities = F.one_hot(targets, 10).float()[:, :, None, None].expand_as(outputs)
        loss = F.cross_entropy(outputs, target=probabilities, reduction="sum") / (4 * len(inputs))
        loss.backward()
        self.optimizer.step()
        return StepResult({"loss": loss}, len(inputs))


@pytest.mark.parametrize(("end", "expected"), [("logits", []), ("softmax", [TWICE])])
def test_dense_outputs_and_probabilities_as_targets(look_with, write_into, end, expected):
    write_into(model.model, Ending)
    rows, problems = look_with(Soft, model={"type": "Ending", "args": {"end": end}}, **PLAIN)
    assert problems == expected
    assert float(rows["initial loss"].split()[1].rstrip(";")) == pytest.approx(math.log(10), abs=0.5)


class PerSample(trainer.trainer.Trainer):
    """Gradients of each sample, by torch.func; inside it tensors have no values."""

    def train_step(self, batch):
        inputs, targets = batch
        weights = dict(self.model.named_parameters())

        def loss_of(weights, one, target):
            return F.cross_entropy(torch.func.functional_call(self.model, weights, (one[None],)), target[None])

        grads = torch.func.vmap(torch.func.grad(loss_of), (None, 0, 0))(weights, inputs, targets)
        for name, weight in weights.items():
            weight.grad = grads[name].mean(dim=0)
        self.optimizer.step()
        return StepResult({"loss": self.loss_fn(self.forward(inputs), targets).detach()}, len(inputs))


def test_a_step_without_backward_is_looked_at_as_far_as_it_goes(look_with, write_into):
    write_into(model.model, Ending)
    rows, problems = look_with(PerSample, model="Ending", loss="cross_entropy", **PLAIN)
    assert problems == [] and rows["gradients"] == "each step has its own"


def test_a_loss_that_is_not_finite_is_named(look, write_into):
    class Infinite(Ending):
        def forward(self, inputs):
            return super().forward(inputs) * math.nan

    write_into(model.model, Infinite)
    _, (problem,) = look(model="Infinite", loss="cross_entropy", **PLAIN)
    assert problem.startswith("trainer.train_step: in the first step loss is nan, grad_norm is nan. Look for it with ")
