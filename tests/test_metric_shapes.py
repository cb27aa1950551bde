"""Stock metrics over shapes: what a loop over single samples gives, or refused."""

import pytest
import torch

from model.metric import ConfusionMatrix, accuracy, top_k_accuracy


def _loop(metric, outputs, targets, **args):
    return sum(metric(outputs[i : i + 1], targets[i : i + 1], **args).item() for i in range(len(outputs))) / len(
        outputs
    )


@pytest.mark.parametrize(
    ("outputs", "targets", "args", "right"),
    [
        ((8, 3), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1]), {}, None),
        ((8, 3, 5), torch.zeros(8, 5, dtype=torch.int64), {}, None),
        ((8,), torch.tensor([0.0, 1] * 4), {"threshold": 0.0}, None),
        ((8, 1), torch.tensor([[0.0], [1]] * 4), {"threshold": 0.0}, None),
        ((8, 1), torch.tensor([[0], [1]] * 4), {"threshold": 0.5}, None),
        ((8, 4), torch.ones(8, 4), {"threshold": 0.0}, None),
    ],
)
def test_accuracy_is_that_of_a_loop_over_single_samples(outputs, targets, args, right):
    outputs = torch.randn(outputs, generator=torch.Generator().manual_seed(1))
    found = accuracy(outputs, targets, **args).item()
    assert found == pytest.approx(_loop(accuracy, outputs, targets, **args))
    threshold = args.get("threshold")
    best = outputs.argmax(dim=1) if threshold is None else outputs > threshold
    assert found == pytest.approx((best == targets).float().mean().item())


@pytest.mark.parametrize(
    "metric", [accuracy, top_k_accuracy, lambda output, target: ConfusionMatrix(3).update(output, target)]
)
@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        (torch.zeros(8), torch.zeros(8)),
        (torch.zeros(8, 1), torch.zeros(8, 1)),
        (torch.zeros(8, 1), torch.zeros(8, dtype=torch.int64)),
        (torch.zeros(8), torch.zeros(8, dtype=torch.int64)),
        (torch.zeros(8, 3), torch.zeros(8, 3)),
        (torch.zeros(8, 3), torch.zeros(8)),
        (torch.zeros(8, 3), torch.zeros(8, 1, dtype=torch.int64)),
        (torch.zeros(8, 3), torch.zeros(4, dtype=torch.int64)),
        (torch.zeros(8, 3, 5), torch.zeros(8, dtype=torch.int64)),
        (torch.zeros(8, 5, 3), torch.zeros(8, 5, dtype=torch.int64)),
    ],
)
def test_stock_metrics_refuse_other_shapes(metric, outputs, targets):
    with pytest.raises(ValueError, match=r"outputs \(8.* for targets \("):
        metric(outputs, targets)


def test_confusion_matrix_says_which_number_does_not_fit():
    scores = torch.randn(4, 3)
    matrix = ConfusionMatrix(3, ignore_index=-100)
    matrix.update(scores, torch.tensor([0, -100, 2, 1]))
    assert matrix.compute().sum() == 3
    for classes, targets, message in (
        (2, [0, 1, 0, 1], "num_classes is 2, but there are 3 scores for each sample"),
        (3, [0, 1, 3, 1], "num_classes is 3, but there is a target 3"),
        (3, [0, 1, -1, 1], "num_classes is 3, but there is a target -1"),
    ):
        with pytest.raises(ValueError, match=message):
            ConfusionMatrix(classes).update(scores, torch.tensor(targets))
