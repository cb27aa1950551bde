"""What is known before a run starts is said before it starts."""

import pytest
import torch
from conftest import metrics_of
from torch import nn

import data_loader.datasets
import model.model
import train as train_script
import trainer.trainer
from base.base_trainer import StepResult
from data_loader.datasets import Digits


class Normed(nn.Module):
    def __init__(self, num_classes: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, num_classes))

    def forward(self, images):
        return self.layers(images.flatten(1)).log_softmax(dim=1)


class Squeezing(nn.Module):
    """Loses the first dimension where a batch has one sample."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.layer = nn.Linear(64, num_classes)

    def forward(self, images):
        return self.layer(images.flatten(1)).log_softmax(dim=1).squeeze()


@pytest.mark.parametrize(
    ("network", "split", "size", "reason"),
    [
        ("Normed", "train", 34, "ValueError: Expected more than 1 value per channel"),  # 1,259 = 37 * 34 + 1
        ("Squeezing", "train", 37, "RuntimeError: size mismatch"),  # 1,259 = 34 * 37 + 1
        ("Squeezing", "valid", 178, "ValueError: accuracy: outputs (10,) for targets (1,)"),  # 179 = 178 + 1
    ],
)
def test_a_last_batch_of_one_sample(project, write_into, network, split, size, reason):
    for cls in (Normed, Squeezing):
        write_into(model.model, cls)
    settings = {
        "model": {"type": network, "args": {"num_classes": 10}},
        "metrics": ["accuracy"] * (split == "valid"),
        "data_loader": {"batch_size": size},
    }
    message = project.refused_config(**settings)
    assert f"The last {split} batch, of 1 sample, fails. {reason}" in message
    assert "The batch: (float32 (1, 1, 8, 8), int64 (1,))" in message
    if split == "train":
        assert '"drop_last": true in data_loader; or choose another batch_size' in message
        project.train(**settings | {"data_loader": {"batch_size": size, "drop_last": True}}, trainer={"epochs": 1})


class InADict(Digits):
    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        return {"image": image, "label": target}


class WithItsFile(Digits):
    def __getitem__(self, index):
        return (*super().__getitem__(index), f"{index}.png")


@pytest.mark.parametrize(
    ("dataset", "batch"),
    [
        (InADict, "a dict with image: float32 (32, 1, 8, 8), label: int64 (32,)"),
        (WithItsFile, "(float32 (32, 1, 8, 8), int64 (32,), "),
    ],
)
def test_a_batch_of_another_form_is_described_with_what_to_return(project, write_into, dataset, batch):
    write_into(data_loader.datasets, dataset)
    said = project.refused_config(dataset=dataset.__name__, data_loader={"batch_size": 32})
    assert f"The batch: {batch}" in said
    assert "`inputs, targets = batch` needs a batch of two parts. Return (inputs, targets) from the data set." in said
    assert len(said.strip().splitlines()) <= 6


class Mislabelled(Digits):
    """A class number that the model does not know, far from the first batch of a split."""

    def __init__(self, split: str, wrong: str, number: int):
        super().__init__(split)
        if split == wrong:
            self.targets = self.targets.clone()
            self.targets[150] = number


@pytest.mark.parametrize(("split", "number"), [("train", 10), ("valid", 10), ("valid", -1)])
def test_a_class_number_that_is_none_anywhere_in_the_data(project, write_into, split, number):
    write_into(data_loader.datasets, Mislabelled)
    dataset = {"type": "Mislabelled", "args": {"wrong": split, "number": number}}
    message = project.refused_config(dataset=dataset, data_loader={"batch_size": 64, "shuffle": False})
    if split == "train":  # the last validation batch has it
        assert f"dataset: {split} sample 150 has the target {number}. The targets are from " in message
    assert "and the model returns 10 scores for each sample: class numbers must be from 0 to 9" in message


def test_a_target_without_a_label_is_none_of_these(project, write_into):
    write_into(data_loader.datasets, Mislabelled)
    project.train(
        dataset={"type": "Mislabelled", "args": {"wrong": "train", "number": -100}}, metrics=[], trainer={"epochs": 1}
    )


COSINE, POLYNOMIAL = {"type": "CosineAnnealingLR"}, {"type": "PolynomialLR", "args": {"total_iters": 4}}
ONE_CYCLE = {"type": "OneCycleLR", "interval": "step", "args": {"max_lr": 0.1, "total_steps": 1000}}
PARTS = [{"type": "LinearLR", "args": {"total_iters": 2}}, COSINE | {"args": {"T_max": 6}}]
WARMED_UP = {"type": "SequentialLR", "args": {"milestones": [2], "schedulers": PARTS}}


@pytest.mark.parametrize(
    ("scheduler", "epochs", "said"),
    [
        (COSINE | {"args": {"T_max": 4}}, 8, "T_max 4, but the run steps it 8 times: the learning rate rises again."),
        (COSINE | {"args": {"T_max": 8}}, 4, "T_max 8, but the run steps it 4 times: the learning rate does not come"),
        (POLYNOMIAL, 8, "total_iters 4, but the run steps it 8 times: the learning rate stays at its end. Write total"),
        (ONE_CYCLE, 2, "total_steps 1000, but the run steps it 40 times"),
        (COSINE | {"args": {"T_max": 8}}, 8, None),
        (COSINE | {"args": {"T_max": 7}}, 8, None),
        ({"type": "StepLR", "args": {"step_size": 1}}, 8, None),
        (WARMED_UP, 8, None),
    ],
)
def test_a_schedule_that_does_not_suit_the_length_of_the_run(project, caplog, scheduler, epochs, said):
    from base.checks.preflight import check_before_training

    check_before_training(project.trainer(lr_scheduler=scheduler, trainer={"epochs": epochs}))
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert (
        not any("lr_scheduler" in text for text in warnings) if said is None else any(said in text for text in warnings)
    )


def test_it_is_said_when_a_run_is_made_longer_too(project):
    run = project.train(lr_scheduler={"type": "CosineAnnealingLR", "args": {"T_max": 2}})
    out = project.resume(run, "--set", "trainer.epochs=4")
    assert (
        "lr_scheduler.args: CosineAnnealingLR has T_max 2, but the run steps it 4 times: the learning rate rises" in out
    )


def quarter(epoch: int) -> float:
    return 0.25**epoch


class Gap(trainer.trainer.Trainer):
    """Monitors what it adds to an epoch, and reports what is infinite in the first steps."""

    def train_step(self, batch):
        result = super().train_step(batch)
        return StepResult(result.means | {"odds": torch.tensor(float("inf"))}, result.count)

    def on_epoch_end(self, values):
        values["gap"] = abs(values["loss"] - values["val_loss"])


def test_a_value_of_on_epoch_end_is_monitored_and_one_beside_the_loss_may_be_infinite(project, write_into):
    write_into(trainer.trainer, Gap)
    config = project.write_config(trainer={"type": "Gap", "monitor": "min gap", "epochs": 2})
    code, out, err = project.command(train_script, "-c", config)
    assert code == 0, err
    assert out.count("odds is inf. Training continues, and does not report odds again.") == 1
    (run,) = project.run_dirs()
    assert all(line["odds"] is None and line["gap"] >= 0 for line in metrics_of(run))


@pytest.mark.parametrize("kind", ["LambdaLR", "MultiplicativeLR"])
def test_a_schedule_by_a_function_of_the_project(project, kind):
    name = "examples.from_scratch.schedule.halved"
    scheduler = {"type": kind, "args": {"lr_lambda": name}}
    message = project.refused_config(lr_scheduler=scheduler)
    assert (
        f"lr_scheduler.args.lr_lambda.type: {name!r}: the project has no module examples.from_scratch.schedule"
        in message
    )
    scheduler["args"]["lr_lambda"] = "scripts.nothing.at_all"
    assert "lr_lambda.type" in project.refused_config(lr_scheduler=scheduler)
