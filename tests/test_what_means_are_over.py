"""Nothing is guessed from a shape: means are over what they are over, whatever the form of a batch."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import data_loader.datasets
import model.loss
import model.model
import train as train_script
from base.base_dataset import BaseDataset
from base.exact_loss import LossItems
from utils.batch import is_batch_first, samples_in
from utils.batches.loaders import make_batches
from utils.config.options import LoaderOptions

SAMPLES, BATCH = 22, 4  # a last batch of two
G = torch.Generator().manual_seed(0)
FEATURES = torch.randn(SAMPLES, 6, generator=G)
CLASSES = torch.randint(0, 3, (SAMPLES,), generator=G)
SOME_IGNORED = torch.where(torch.arange(SAMPLES) % 3 == 1, -100, CLASSES)
DENSE = torch.randint(0, 3, (SAMPLES, 5), generator=G)
PADDED = torch.where(torch.arange(5) < 1 + torch.arange(SAMPLES)[:, None] % 5, DENSE, -100)
PADDED[4:8] = -100  # a batch without a label
NUMBERS = torch.rand(SAMPLES, 1, generator=G)
WEIGHT = [1.0, 5.0, 20.0]


class Rows(BaseDataset):
    """One of the targets above, by name; the same samples in each split."""

    def __init__(self, split: str, targets: str, keeps: bool = False):
        super().__init__(split)
        self.values = globals()[targets]
        if keeps:
            self.targets = self.values

    def __len__(self):
        return SAMPLES

    def __getitem__(self, index):
        return FEATURES[index], self.values[index]


class Scores(nn.Module):
    """(B, *shape) from six features."""

    def __init__(self, shape: list[int], is_probability: bool = False):
        super().__init__()
        self.layer, self.shape, self.is_probability = nn.Linear(6, math.prod(shape)), shape, is_probability

    def forward(self, features):
        outputs = self.layer(features).view(-1, *self.shape)
        return outputs.sigmoid() if self.is_probability else outputs


LOSSES = [
    ("cross_entropy", {}, "CLASSES", [3]),
    ("cross_entropy", {"weight": WEIGHT}, "CLASSES", [3]),
    ("CrossEntropyLoss", {"weight": WEIGHT, "label_smoothing": 0.1}, "CLASSES", [3]),
    ("CrossEntropyLoss", {}, "SOME_IGNORED", [3]),
    ("CrossEntropyLoss", {"ignore_index": 1}, "CLASSES", [3]),
    ("CrossEntropyLoss", {"weight": WEIGHT}, "SOME_IGNORED", [3]),
    ("cross_entropy", {}, "DENSE", [3, 5]),
    ("cross_entropy", {"weight": WEIGHT}, "PADDED", [3, 5]),
    ("NLLLoss", {}, "PADDED", [3, 5]),
    ("nll_loss", {"weight": WEIGHT}, "CLASSES", [3]),
    ("MSELoss", {}, "NUMBERS", [1]),
    ("l1_loss", {}, "NUMBERS", [1]),
    ("HuberLoss", {"delta": 0.1}, "NUMBERS", [1]),
    ("BCEWithLogitsLoss", {"pos_weight": [3.0]}, "NUMBERS", [1]),
    ("BCELoss", {}, "NUMBERS", [1]),
    ("focal_loss", {}, "CLASSES", [3]),
]


def sections(name, loss_args, targets, shape, **trainer):
    outputs = {"shape": shape, "is_probability": name == "BCELoss"}
    return {
        "model": {"type": "Scores", "args": outputs},
        "dataset": {"type": "Rows", "args": {"targets": targets, "keeps": trainer.pop("keeps", False)}},
        "data_loader": {"batch_size": BATCH, "shuffle": False},
        "loss": {"type": name, "args": loss_args},
        "metrics": [],
        "optimizer": {"type": "SGD", "args": {"lr": 0.05, "momentum": 0.9}},
        "lr_scheduler": None,
        "trainer": {"type": "FullTrainer", "epochs": 1, "on_non_finite": "warn", "monitor": "off", "early_stop": None}
        | trainer,
    }


@pytest.fixture(autouse=True)
def _written(write_into):
    write_into(data_loader.datasets, Rows)
    write_into(model.model, Scores)


@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize(("name", "args", "targets", "shape"), LOSSES)
def test_an_epochs_mean_of_each_stock_loss_is_that_of_the_whole_set(project, name, args, targets, shape, keeps):
    built = project.trainer(**sections(name, args, targets, shape, keeps=keeps))
    with torch.no_grad():
        outputs = built.model.eval()(FEATURES)
        right = built.loss_fn(outputs, globals()[targets]).item()
    assert built.evaluate("valid")["loss"] == pytest.approx(right, rel=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize(("name", "args", "targets", "shape"), LOSSES)
def test_micro_batches_train_as_the_whole_batch(project, name, args, targets, shape, size):
    whole, parts = (
        project.trainer(**sections(name, args, targets, shape, args=own)) for own in ({}, {"micro_batch_size": size})
    )
    if any(value.isnan().any() for value in whole.model.state_dict().values()):
        pytest.fail("a start that is no number")
    for one, other in zip(whole.run.batches["train"].epoch(), parts.run.batches["train"].epoch(), strict=True):
        results = [
            built.result_of(built.train_step, batch, built.run.batches["train"].samples)
            for built, batch in ((whole, one), (parts, other))
        ]
        first, second = (result.means["loss"] for result in results)
        assert torch.equal(first.isnan(), second.isnan()) or not bool((one[1] != -100).any())
        torch.testing.assert_close(second, first, rtol=1e-5, atol=1e-6, equal_nan=True) if (
            one[1] != -100
        ).any() else None
    for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["mse_loss", "L1Loss", "SmoothL1Loss", "huber_loss", "poisson_nll_loss", "soft_margin_loss"]
)
@pytest.mark.parametrize(("targets", "shape"), [("CLASSES", [1]), ("NUMBERS", []), ("NUMBERS", [2])])
def test_stock_losses_refuse_what_fits_only_by_broadcasting(project, name, targets, shape):
    message = project.refused_config(**sections(name, {}, targets, shape))
    assert f"loss: {name} gets outputs ({BATCH}" in message and "Make the shapes equal: outputs.squeeze(1)" in message


def squared(output, target):
    return ((output - target) ** 2).mean()


def hits(output, target):
    return (output.round() == target).float().mean()


def test_a_persons_own_are_a_warning_at_the_start_and_a_problem_of_the_check(project, write_into, monkeypatch):
    for function, module in ((squared, model.loss), (hits, __import__("model.metric").metric)):
        write_into(module, function)
    own = sections("squared", {}, "CLASSES", [1]) | {"metrics": ["hits"]}
    config = project.write_config(**own)
    code, out, err = project.command(train_script, "-c", config)
    for where in ("loss: squared", "metric 'hits'"):
        finding = f"{where} gets outputs (4, 1) and targets (4,), which fit only by broadcasting"
        assert code == 0 and finding in out
        assert finding in project.refused("-c", config, "--check")


def mean_over_labels(output, target):
    counted = target != -100
    return F.cross_entropy(output, target.where(counted, 0), reduction="none")[counted].mean()


def test_a_loss_that_is_no_mean_over_samples_is_named_and_refused_in_micro_batches(project, write_into):
    write_into(model.loss, mean_over_labels)
    own = sections("mean_over_labels", {}, "SOME_IGNORED", [3])
    code, out, _ = project.command(train_script, "-c", project.write_config(**own))
    note = "loss: mean_over_labels of a batch is not the mean over samples of those of its parts"
    assert code == 0 and note in out
    message = project.refused_config(
        **sections("mean_over_labels", {}, "SOME_IGNORED", [3], args={"micro_batch_size": 2})
    )
    assert f"trainer.args.micro_batch_size: {note}" in message and "Leave micro_batch_size out." in message


# ---- samples ----


class Lists(Rows):
    """Sequences of different lengths; a batch is two lists."""

    def __getitem__(self, index):
        length = 2 + 7 * index % 9
        return FEATURES[index].repeat(length, 1), torch.arange(length) * (1.0 + index)

    def collate(self, samples):
        return [inputs for inputs, _ in samples], [targets for _, targets in samples]


class TimeMajor(Rows):
    """(T, B, ...), with T as large as a batch."""

    def collate(self, samples):
        inputs = torch.stack([inputs for inputs, _ in samples]).repeat(4, 1, 1)
        return inputs, torch.stack([target for _, target in samples]).repeat(4, 1)


class Filtered(Rows):
    """Leaves samples out."""

    def collate(self, samples):
        return super().collate([sample for sample in samples if sample[0][0] > -0.5])


class EachSequence(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 1)

    def forward(self, sequences):
        return [self.layer(sequence).squeeze(1) for sequence in sequences]


def sequence_error(outputs, targets):
    return torch.stack([F.mse_loss(output, target) for output, target in zip(outputs, targets, strict=True)]).mean()


@pytest.mark.parametrize("dataset", [Lists, TimeMajor])
@pytest.mark.parametrize("workers", [0, 1])
def test_the_loader_knows_how_many_samples_are_in_a_batch(dataset, workers):
    options = LoaderOptions(batch_size=BATCH, num_workers=workers)
    batches = make_batches(dataset("valid", "CLASSES"), "valid", 0, options)
    assert [batches.samples for _ in batches.epoch()] == [4, 4, 4, 4, 4, 2]


def test_lists_as_batches(project, write_into):
    write_into(data_loader.datasets, Lists)
    write_into(model.model, EachSequence)
    write_into(model.loss, sequence_error)
    own = sections("sequence_error", {}, "CLASSES", [1]) | {"model": "EachSequence"}
    own["dataset"]["type"] = "Lists"
    whole = project.trainer(**own)
    samples = [Lists("valid", "CLASSES")[i] for i in range(SAMPLES)]
    with torch.no_grad():
        right = sum(F.mse_loss(whole.model([inputs])[0], targets).item() for inputs, targets in samples) / SAMPLES
    assert whole.evaluate("valid")["loss"] == pytest.approx(right, rel=1e-5)
    own["trainer"]["args"] = {"micro_batch_size": 1}
    parts = project.trainer(**own)
    for built in (whole, parts):
        built.result_of(built.train_step, next(built.run.batches["train"].epoch()), BATCH)
    torch.testing.assert_close(parts.model.layer.weight, whole.model.layer.weight)


def flat_cross_entropy(output, target):
    return F.cross_entropy(output, target.flatten())


def test_micro_batches_along_another_dimension_are_refused_before_the_run(project, write_into):
    write_into(data_loader.datasets, TimeMajor)
    write_into(model.loss, flat_cross_entropy)
    own = sections("flat_cross_entropy", {}, "CLASSES", [3], args={"micro_batch_size": 2})
    own["dataset"]["type"] = "TimeMajor"
    message = project.refused_config(**own)
    assert "trainer.args.micro_batch_size: the samples are not the first dimension of each tensor of a batch" in message


def test_what_is_batch_first_is_told_by_another_number_of_samples():
    pair = torch.zeros(4, 2), torch.zeros(4)
    assert is_batch_first(pair, 4, (torch.zeros(2, 9), torch.zeros(2)), 2)
    assert not is_batch_first((torch.zeros(4, 4),), 4, (torch.zeros(4, 2),), 2)
    assert not is_batch_first(
        {"a": pair[0], "weights": torch.zeros(4)}, 4, {"a": torch.zeros(2, 2), "weights": torch.zeros(4)}, 2
    )
    assert is_batch_first([*"abcd"], 4, [*"ab"], 2)
    assert is_batch_first({"a": torch.tensor(1.0), "b": "text"}, 4, {"a": torch.tensor(1.0), "b": "text"}, 2)


def test_of_a_loss_of_ones_own_nothing_is_known():
    assert LossItems(squared).over(CLASSES) is None and not LossItems(squared).is_known
    assert LossItems(F.cross_entropy, [Rows("train", "CLASSES", keeps=True)]).over(CLASSES) is None
    assert (
        LossItems(F.cross_entropy, [Rows("train", "SOME_IGNORED", keeps=True)]).over(SOME_IGNORED)
        == (SOME_IGNORED >= 0).sum()
    )


def test_a_filtering_collate_keeps_the_mean_of_what_is_left(project, write_into):
    write_into(data_loader.datasets, Filtered)
    own = sections("cross_entropy", {}, "CLASSES", [3])
    own["dataset"]["type"] = "Filtered"
    built = project.trainer(**own)
    with torch.no_grad():
        is_left = FEATURES[:, 0] > -0.5
        right = F.cross_entropy(built.model(FEATURES[is_left]), CLASSES[is_left]).item()
    assert built.evaluate("valid")["loss"] == pytest.approx(right, rel=1e-5)
    counts = [samples_in(batch, built.run.batches["valid"].samples) for batch in built.run.batches["valid"].epoch()]
    assert sum(counts) == is_left.sum() < SAMPLES


@pytest.mark.parametrize("metric", ["accuracy", "top_k_accuracy"])
def test_a_refused_shape_is_one_message_before_the_run(project, metric):
    own = sections("BCEWithLogitsLoss", {}, "NUMBERS", [1]) | {"metrics": [metric]}
    message = project.refused_config(**own)
    assert f"{metric}: outputs (4, 1) for targets (4, 1)" in message
    if metric == "accuracy":
        assert '"args": {"threshold": 0}} if the outputs are logits, or 0.5 if they are probabilities' in message
