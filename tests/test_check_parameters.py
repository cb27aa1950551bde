"""What a check says about parameters that do not learn."""

import pytest
import torch
from torch import nn

import model.model
import trainer.trainer
from logger.means import StepResult
from model.model import LeNet


class FrozenLate(trainer.trainer.Trainer):
    """Freezes a layer that the optimizer has."""

    def __init__(self, **parts):
        super().__init__(**parts)
        self.model.conv1.requires_grad_(False)


def test_a_frozen_parameter_left_in_the_optimizer_is_named(look_with):
    rows, problems = look_with(FrozenLate)
    assert rows["parameters"] == "1,034 (994 trainable)" and rows["without gradient"].startswith("none")
    assert problems == [
        "optimizer: it holds frozen parameters: model.conv1.weight, model.conv1.bias. Freeze them before the optimizer "
        "is made, and give it those with requires_grad alone."
    ]


class FrozenEarly(LeNet):
    def __init__(self, num_classes: int):
        super().__init__(num_classes)
        self.conv1.requires_grad_(False)


class Thawing(FrozenLate):
    """Has the layer frozen between its steps alone, as some adversarial trainers do."""

    def train_step(self, batch):
        self.model.conv1.requires_grad_(True)
        result = super().train_step(batch)
        self.model.conv1.requires_grad_(False)
        return result


def test_parameters_that_are_frozen_as_they_should_be_are_no_problem(look, look_with, write_into):
    write_into(model.model, FrozenEarly)
    assert look(model={"type": "FrozenEarly", "args": {"num_classes": 10}})[1] == []
    assert look_with(Thawing)[1] == []


class Partial(trainer.trainer.Trainer):
    """Trains the last layer alone."""

    def __init__(self, **parts):
        super().__init__(**parts)
        self.optimizer = torch.optim.Adam(self.model.fc2.parameters())


def test_a_trainable_parameter_in_no_optimizer_is_named(look_with):
    _, problems = look_with(Partial, lr_scheduler=None)
    assert problems == [
        "optimizer: no optimizer holds model.conv1.weight, model.conv1.bias, model.conv2.weight, model.conv2.bias and "
        "2 more, which would never train. Give them to one, or freeze them: requires_grad_(False)."
    ]


class Averaging(trainer.trainer.Trainer):
    """Keeps a running mean of the weights, which no optimizer holds, on purpose."""

    def __init__(self, **parts):
        super().__init__(**parts)
        self.average = torch.optim.swa_utils.AveragedModel(self.model)

    def train_step(self, batch):
        result = super().train_step(batch)
        self.average.update_parameters(self.model)
        return result

    def stateful(self):
        return super().stateful() | {"average": self.average}


def test_a_mean_of_the_weights_is_no_problem(look_with):
    rows, problems = look_with(Averaging)
    assert problems == [] and rows["without gradient"].startswith("none")


def test_parameters_without_a_gradient_are_listed(look, write_into):
    class Forgetful(LeNet):
        def __init__(self, num_classes: int):
            super().__init__(num_classes)
            self.forgotten = nn.Linear(2, 2)

    write_into(model.model, Forgetful)
    rows, problems = look(model={"type": "Forgetful", "args": {"num_classes": 10}})
    assert problems == []
    assert rows["without gradient"] == "model.forgotten.weight, model.forgotten.bias, in 9 steps"


class Shared(trainer.trainer.Trainer):
    def __init__(self, **parts):
        super().__init__(**parts)
        self.second = torch.optim.SGD(self.model.fc2.parameters(), lr=0.1)

    def stateful(self):
        return super().stateful() | {"second": self.second}


def test_a_parameter_in_two_optimizers_is_noted(look_with):
    rows, problems = look_with(Shared)
    assert problems == [] and rows["note"] == "more than one optimizer holds model.fc2.weight, model.fc2.bias"


class Words(nn.Module):
    """Its gradients are sparse: of the rows that a batch has alone."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.EmbeddingBag(256, 10, sparse=True)

    def forward(self, inputs):
        return self.embedding(inputs.flatten(1).abs().mul(10).long()).log_softmax(dim=1)


class Sparse(trainer.trainer.Trainer):
    zeroes = True

    def train_step(self, batch):
        inputs, targets = batch
        if self.zeroes:
            self.optimizer.zero_grad()
        loss = self.loss_fn(self.forward(inputs), targets)
        loss.backward()
        self.optimizer.step()
        return StepResult({"loss": loss}, len(targets))


@pytest.mark.parametrize(("zeroes", "count"), [(True, 0), (False, 1)])
def test_sparse_gradients_are_gradients_too(look_with, write_into, monkeypatch, zeroes, count):
    write_into(model.model, Words)
    monkeypatch.setattr(Sparse, "zeroes", zeroes)
    _, problems = look_with(Sparse, model="Words", optimizer="SparseAdam", metrics=[], lr_scheduler=None)
    assert len(problems) == count
