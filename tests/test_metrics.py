"""An epoch's means are those of the whole set, whatever the sizes of the batches."""

import math
import re

import numpy as np
import pytest
import torch
from conftest import load
from torch.nn import functional as F

import model.metric
from data_loader.datasets import Digits
from logger.means import RunningMeans, StepResult, mean_over
from logger.metrics import Metrics, scalars_and_matrices
from model.metric import ConfusionMatrix, accuracy, top_k_accuracy
from model.model import LeNet
from utils.errors import BadReturn


@pytest.mark.parametrize("batch_size", [1, 7, 64, 359])
def test_means_of_a_run_equal_those_over_the_whole_set(project, batch_size):
    """359 test samples: 7 and 64 leave a short last batch."""
    run = project.train("--lr", "0.01")  # far enough trained that no rounding decides between two classes
    values, _ = project.test("-r", run, "--set", f"data_loader.batch_size={batch_size}")
    network = LeNet(10, channels=(4, 8), hidden=16).eval()
    network.load_state_dict(load(run / "model_best.pth")["model"])
    test_set = Digits("test")
    images, targets = test_set.__getitems__(list(range(len(test_set))))
    with torch.no_grad():
        output = network(images)
    expected = {
        "loss": F.nll_loss(output.double(), targets),
        "accuracy": (output.argmax(1) == targets).double().mean(),
        "top_k_accuracy": (output.topk(3).indices == targets[:, None]).any(1).double().mean(),
    }
    assert values == pytest.approx({name: value.item() for name, value in expected.items()}, abs=1e-6)


def test_the_mean_over_a_short_last_batch_is_exact():
    """The mean of these batch means is 0.75; the mean over items is 0.6."""
    means = RunningMeans()
    means.update(StepResult({"loss": torch.tensor(0.5)}, count=4))
    means.update(StepResult({"loss": torch.tensor(1.0)}, count=1))
    assert means.compute() == {"loss": pytest.approx(0.6, abs=1e-12)}


def test_a_mean_over_many_single_items_does_not_drift():
    means = RunningMeans()
    for _ in range(20_000):
        means.update(StepResult({"loss": torch.tensor(0.1)}, count=1))
    assert means.compute()["loss"] == pytest.approx(0.1, abs=1e-8)  # float32 sums drift by 1e-6 here


def test_a_step_may_leave_names_out():
    means = RunningMeans()
    means.update(StepResult({"g": torch.tensor(1.0), "d": torch.tensor(4.0)}, count=1))
    means.update(StepResult({"g": torch.tensor(4.0)}, count=2))
    assert means.compute() == {"g": 3.0, "d": 4.0}


@pytest.mark.parametrize(
    ("mean", "found"),
    [
        (torch.zeros(3), "of shape (3,)"),
        (np.zeros((2, 1)), "of shape (2, 1)"),
        (None, "None"),
        ("0.5", "a str"),
        (torch.tensor(1j), "a Tensor"),
    ],
)
def test_a_mean_that_is_no_number_is_named(mean, found):
    with pytest.raises(BadReturn) as error:
        RunningMeans().update(StepResult({"accuracy": torch.tensor(1.0), "loss": mean}, count=3))
    assert str(error.value) == f"StepResult: 'loss' is {found}. Return a number: its mean over the batch."


@pytest.mark.parametrize("kind", [float, np.float64, np.float32, torch.tensor, lambda value: torch.tensor([value])])
def test_numbers_of_all_kinds_are_means(kind):
    means = RunningMeans()
    for value, count in ((0.25, 2), (0.5, kind(0.0)), (1.0, kind(1.5)), (4.0, torch.tensor(1))):
        means.update(StepResult({"loss": kind(value), "other": torch.tensor(value)}, count))
    right = (0.25 * 2 + 1.0 * 1.5 + 4.0) / 4.5
    assert means.compute() == pytest.approx({"loss": right, "other": right})


@pytest.mark.parametrize("count", [-1, float("nan"), float("inf")])
def test_a_count_that_is_none_is_named(count):
    with pytest.raises(BadReturn, match="StepResult: count is .*. Return the number of items of the batch."):
        RunningMeans().update(StepResult({"loss": torch.tensor(1.0)}, count))


def test_of_no_items_nothing_counts():
    means = RunningMeans()
    for count in (0, torch.tensor(0), 0.0):
        assert means.update(StepResult({"loss": torch.tensor(float("nan"))}, count)).tolist() == [0.0]
    assert math.isnan(means.compute()["loss"])
    means.update(StepResult({"loss": torch.tensor(2.0)}, 5))
    assert means.compute() == {"loss": 2.0}


def test_a_mean_over_something_else_has_its_own_count_and_goes_on_after_a_resume():
    whole, halves = RunningMeans(), RunningMeans()
    results = [
        StepResult({"loss": mean_over(torch.tensor(value), count), "accuracy": torch.tensor(value)}, 2)
        for value, count in ((0.1, 3), (0.7, torch.tensor(0.3)), (0.9, 11.5))
    ]
    for number, result in enumerate(results):
        whole.update(result)
        if number == 2:
            state, halves = halves.state_dict(), RunningMeans()
            halves.load_state_dict(state)
        halves.update(result)
    assert whole.compute() == halves.compute()
    right = (0.1 * 3 + 0.7 * 0.3 + 0.9 * 11.5) / 14.8
    assert whole.compute() == pytest.approx({"loss": right, "accuracy": 1.7 / 3})


def test_top_k_with_fewer_classes_than_k():
    assert top_k_accuracy(torch.rand(5, 2), torch.tensor([0, 1, 0, 1, 0]), k=3) == 1.0


def test_accuracies_of_known_scores():
    scores = torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2], [0.2, 0.7, 0.1]])
    targets = torch.tensor([2, 1, 0])
    assert accuracy(scores, targets).item() == pytest.approx(1 / 3)
    assert top_k_accuracy(scores, targets, k=2).item() == 1.0


def test_a_confusion_matrix_sees_every_batch_and_forgets_at_reset():
    matrix = ConfusionMatrix(num_classes=2)
    metrics = Metrics({"accuracy": accuracy, "matrix": matrix})
    scores = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    for target in (torch.tensor([0, 1, 1]), torch.tensor([0, 0, 0])):
        assert list(metrics(scores, target)) == ["accuracy"]
    assert metrics.compute()["matrix"].tolist() == [[3, 1], [1, 1]]
    metrics.reset()
    assert metrics.compute()["matrix"].sum() == 0


def test_the_confusion_matrix_of_a_run_is_printed_as_a_table(project):
    _, out = project.test("-r", project.train())
    lines = out.splitlines()
    head = lines.index("ConfusionMatrix")
    assert lines[head + 2].split() == ["target", *map(str, range(10))]
    counts = [[0 if cell == "." else int(cell) for cell in line.split()[1:]] for line in lines[head + 3 : head + 13]]
    assert sum(map(sum, counts)) == 359
    assert len(lines) == head + 14, "the JSON object is the last line"


def test_a_metric_of_the_whole_phase_is_followed_like_any_other(project, write_into):
    """Recall by class is no mean of batch means; an object with update, compute and reset gets it right."""

    class MacroRecall:
        def __init__(self, num_classes: int):
            self.num_classes = num_classes

        def update(self, output, target):
            self.matrix.update(output, target)

        def compute(self):
            counts = self.matrix.counts.double()
            return (counts.diagonal() / counts.sum(1).clamp(min=1)).mean()

        def reset(self):  # called first, so that a state may be made here
            self.matrix = ConfusionMatrix(self.num_classes)

    write_into(model.metric, MacroRecall)
    metrics = [{"type": name, "args": {"num_classes": 10}} for name in ("MacroRecall", "ConfusionMatrix")]
    run = project.train(metrics=metrics, trainer={"monitor": "max val_MacroRecall"})
    one, _ = project.test("-r", run, "--set", "data_loader.batch_size=1")
    whole, _ = project.test("-r", run, "--set", "data_loader.batch_size=359")
    assert one["MacroRecall"] == whole["MacroRecall"]
    assert 0 < one["MacroRecall"] < 1


def test_vectors_and_numbers_of_a_metric_are_values_and_the_rest_is_named():
    computed = {"recall": torch.tensor([0.5, 1.0]), "score": 1, "f1": torch.tensor(0.5), "counts": torch.ones(2, 2)}
    values = scalars_and_matrices(computed)
    assert {name: value for name, value in values.items() if name != "counts"} == {
        "recall_0": 0.5, "recall_1": 1.0, "score": 1.0, "f1": 0.5,
    }  # fmt: skip
    by_name = {"all": {"f1": np.float32(0.5), "recall": [0.25, 1.0]}, "matrix": np.eye(2)}
    values = scalars_and_matrices(by_name)
    assert torch.equal(values.pop("matrix"), torch.eye(2, dtype=torch.float64))
    assert values == {"all_f1": 0.5, "all_recall_0": 0.25, "all_recall_1": 1.0}
    for curve, found in (
        ((torch.ones(2), torch.ones(2)), "a tuple"),
        ([torch.ones(2), torch.ones(3)], "a list"),
        (torch.ones(2, 2, 2), "a Tensor of shape (2, 2, 2)"),
        (None, "a NoneType"),
        ("high", "a str"),
    ):
        with pytest.raises(BadReturn, match=re.escape(f"metric 'curve': compute() returns {found}. Return a number")):
            scalars_and_matrices({"curve": curve})


def test_test_py_and_validation_agree_on_the_same_data(project):
    run = project.train()
    last = load(run / "last.pth")
    values, _ = project.test("-r", run / "last.pth", "--split", "valid")
    logged = last["monitor"]["best_values"]
    assert logged["epoch"] == last["epoch"]
    assert {f"val_{name}": value for name, value in values.items()} == {
        name: value for name, value in logged.items() if name.startswith("val_")
    }
