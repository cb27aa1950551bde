"""The supervised step, and what a run shows."""

import gc
import re
import time
import weakref

import pytest
import torch
from conftest import load, metrics_of
from torch import nn
from torch.utils.data import Dataset

import data_loader.datasets
import model.loss
import model.model
import trainer.trainer
from base.base_model import BaseModel, summary
from base.base_trainer import BaseTrainer
from base.run import Run
from logger.progress import Progress
from utils.config.options import RunOptions

# ---- the step ----


def test_the_run_equals_a_loop_written_by_hand(project):
    """The same seeds, data and arithmetic, with no trainer: the same weights to the last bit."""
    from data_loader.datasets import Digits
    from model.model import LeNet
    from utils.batches.loaders import make_batches
    from utils.config.options import LoaderOptions
    from utils.seed import seed_everything

    run = project.train(lr_scheduler=None, model=project.config["model"] | {"channels_last": False})
    seed_everything(0)
    network = LeNet(10, channels=(4, 8), hidden=16)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.001, fused=True)
    batches = make_batches(Digits("train"), "train", 0, LoaderOptions(batch_size=64))
    for epoch in (1, 2):
        seed_everything(0, "epoch", epoch)
        for images, targets in batches.epoch():
            optimizer.zero_grad()
            torch.nn.functional.nll_loss(network(images), targets).backward()
            optimizer.step()
    saved = load(run / "last.pth")["model"]
    assert all(torch.equal(saved[name], weight) for name, weight in network.state_dict().items())


def test_gradients_are_clipped_by_their_norm(project):
    """With plain SGD of rate 1 and one batch, the weights move by exactly the clipped norm."""
    sections = {"optimizer": "SGD", "lr_scheduler": None}
    norms = []
    for options in (["--lr", "0"], ["--lr", "1", "--set", "trainer.args.max_grad_norm=0.01"]):
        run = project.train("--set", "trainer.epochs=1", "trainer.epoch_steps=1", *options, **sections)
        norms.append((load(run / "last.pth")["model"], metrics_of(run)[0]["grad_norm"]))
    (before, norm), (after, logged) = norms
    moved = torch.cat([(after[name] - before[name]).flatten() for name in before]).norm()
    assert norm == logged > 0.01, "the logged norm is the one before clipping"
    assert moved.item() == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize(
    ("norm", "message"), [(-1, "is -1, not a number above 0"), ("a", "found 'a'. Write a number or null.")]
)
def test_a_norm_that_cannot_be_is_refused(project, norm, message):
    assert message in project.refused_config("--set", f"trainer.args.max_grad_norm={norm}")
    project.train("--set", "trainer.args.max_grad_norm=null")


def test_a_loss_with_parameters_is_refused_and_a_sum_too(project, write_into):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

    write_into(model.loss, Scaled)
    assert "the loss has parameters, which this trainer would neither train nor save" in project.refused_config(
        loss="Scaled"
    )
    message = project.refused_config(loss={"type": "NLLLoss", "args": {"reduction": "sum"}})
    assert "loss.args.reduction: found 'sum'. Write 'mean'" in message


def test_epoch_steps_are_exact(project):
    run = project.train(trainer={"epoch_steps": 5, "epochs": 3})
    assert [line["step"] for line in metrics_of(run)] == [5, 10, 15]


def test_every_epoch_logs_what_a_reader_asks_for(project):
    for line in metrics_of(project.train()):
        assert set(line) == {
            "epoch", "step", "lr", "grad_norm", "loss", "accuracy", "top_k_accuracy",
            "val_loss", "val_accuracy", "val_top_k_accuracy",
        }  # fmt: skip


def test_the_seed_decides_the_run(project):
    one, same, other = (project.train("--set", f"seed={seed}") for seed in (3, 3, 4))
    assert metrics_of(one) == metrics_of(same) != metrics_of(other)


def test_validation_does_not_change_training(project, write_into):
    class Unvalidated(data_loader.datasets.Digits):
        def __len__(self):
            return 0 if self.split == "valid" else super().__len__()

    write_into(data_loader.datasets, Unvalidated)
    off = {"monitor": "off", "early_stop": None}
    one, other = (project.train(dataset=name, trainer=off) for name in ("Digits", "Unvalidated"))
    assert [line["loss"] for line in metrics_of(one)] == [line["loss"] for line in metrics_of(other)]


class Sentences(Dataset):
    """Token ids (5,), and whether the first is the larger half's."""

    def __init__(self, split):
        self.tokens = torch.arange(200).view(-1, 5).remainder(20)

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, index):
        return self.tokens[index], (self.tokens[index, 0] >= 10).long()


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.EmbeddingBag(20, 2)

    def forward(self, tokens):
        return self.embedding(tokens)


class Points(Dataset):
    """Vectors (3,), and a sum (1,)."""

    def __init__(self, split):
        self.points = torch.linspace(-1, 1, 120).view(-1, 3)

    def __len__(self):
        return len(self.points)

    def __getitem__(self, index):
        return self.points[index], self.points[index].sum(dim=0, keepdim=True)


class Linear(nn.Linear):
    def __init__(self):
        super().__init__(3, 1)


@pytest.mark.parametrize(
    ("dataset", "network", "loss"), [(Sentences, Bag, "cross_entropy"), (Points, Linear, "mse_loss")]
)
def test_tasks_without_images_need_no_change_of_the_trainer(project, write_into, dataset, network, loss):
    write_into(data_loader.datasets, dataset)
    write_into(model.model, network)
    run = project.train(
        model=network.__name__, dataset=dataset.__name__, loss=loss, metrics=[], trainer={"tensorboard": True}
    )
    assert len(metrics_of(run)) == 2 and "failed and is dropped" not in (run / "train.log").read_text()


def test_a_data_set_that_takes_no_split_is_refused(project, write_into):
    """It would be the same in training, validation and test."""

    class Everything(Dataset):
        def __init__(self, path="x"):
            pass

    write_into(data_loader.datasets, Everything)
    assert "dataset.type: Everything takes no split. Its constructor must." in project.refused_config(
        dataset="Everything"
    )


def test_a_file_that_a_data_set_misses_is_one_message(project, write_into):
    class Houses(Dataset):
        def __init__(self, split):
            open("no/such/houses.csv")

    write_into(data_loader.datasets, Houses)
    message = project.refused_config(dataset="Houses")
    assert "dataset.args: Houses cannot be made: [Errno 2] No such file or directory: 'no/such/houses.csv' (" in message
    assert re.search(r" \(tests/test_trainer.py:\d+\)\.$", message)


def test_what_a_constructor_comes_upon_has_its_line_and_what_it_says_itself_has_none(project, write_into):
    class Labels(Dataset):
        def __init__(self, split, is_checked=False):
            if is_checked:
                raise ValueError("labels are no numbers")
            self.targets = [float(text) for text in ["1", "cat"]]

    write_into(data_loader.datasets, Labels)
    found = r"Labels cannot be made: could not convert string to float: 'cat' \(tests/test_trainer.py:\d+\)\.$"
    assert re.search(found, project.refused_config(dataset="Labels"))
    message = project.refused_config(dataset={"type": "Labels", "args": {"is_checked": True}})
    assert message.endswith("dataset.args: Labels cannot be made: labels are no numbers.\n")


def test_a_step_that_returns_something_else_is_named_before_the_run(project, write_into):
    class Bare(trainer.trainer.Trainer):
        def train_step(self, batch):
            return torch.zeros(())

    write_into(trainer.trainer, Bare)
    message = project.refused_config(trainer={"type": "Bare"})
    assert message.endswith("Bare.train_step returns a Tensor. Return StepResult(means, count).\n")
    assert project.run_dirs() == []


def test_a_base_class_without_its_three_methods_cannot_be_made():
    with pytest.raises(TypeError, match="stateful.*train_step.*valid_step"):
        BaseTrainer(Run(RunOptions(epochs=1), {}))


# ---- what is shown ----


class Scaled(BaseModel):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("seen", torch.zeros(3))
        self.register_buffer("cache", torch.zeros(5), persistent=False)
        self.body = nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2))
        self.body[0].weight.requires_grad_(False)


def test_a_summary_counts_parameters_trainable_ones_buffers_and_bytes():
    rows = {line.split()[0]: line.split()[2:] for line in Scaled().summary().splitlines() if not line.startswith("-")}
    assert rows["(own)"] == ["1", "1", "8", "16", "B"], "a scalar is one parameter; the cache is not saved"
    assert rows["body"] == ["14", "6", "5", "80", "B"]
    assert rows["total"] == ["15", "7", "13", "96", "B"]
    assert summary(Scaled()) == Scaled().summary()


def test_a_run_shows_the_model_its_epochs_and_the_best(project):
    run = project.train(trainer={"epochs": 3})
    text = (run / "train.log").read_text()
    assert re.search(r"conv1 +Conv2d", text)
    rows = re.findall(r"^.* INFO +(\d) +[\d.]+/[\d.]+ .* best$", text, re.MULTILINE)
    assert rows == ["1", "2", "3"]
    end = text[text.index("Best epoch:") :]
    assert "val_accuracy" in end and "epoch               3" in end


def test_a_clock_that_stands_still_divides_by_nothing(monkeypatch):
    monkeypatch.setattr(time, "perf_counter", lambda: 1.0)
    progress = Progress([1, 2], total=2, title="")
    for _ in progress:
        progress.update(items=1)
    assert (progress.items_per_second, progress.data_wait_share) == (0.0, 0.0)


def test_without_a_terminal_progress_is_plain_lines(project, monkeypatch):
    monkeypatch.setattr("logger.progress.SECONDS_BETWEEN_LINES", 0.0)
    run = project.train(trainer={"epochs": 1, "log_steps": 1})
    text = (run / "train.log").read_text()
    assert re.search(r"epoch 1/1  7/20 batches  loss [\d.]+  lr 0\.001  [\d,]+ items/s  \d+ s left", text)
    assert "\r" not in text


@pytest.mark.parametrize("name", ["Trainer", "FullTrainer"])
def test_a_trainer_that_is_not_used_any_more_is_gone_at_once(project, name):
    """Without the garbage collector: it has a data set, perhaps workers, and the memory of a device."""
    gc.collect()
    gc.disable()
    try:
        built = project.trainer(trainer={"type": name})
        seen = weakref.ref(built)
        del built
        assert seen() is None
    finally:
        gc.enable()
