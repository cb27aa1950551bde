"""What a step can do besides: each against the plain step on the same batches."""

from contextlib import nullcontext

import pytest
import torch
from conftest import assert_same, load, metrics_of, state_of
from torch import nn
from torch.nn import functional as F

import model.model
import train as train_script
import trainer.trainer
from base.base_trainer import StepResult
from data_loader.datasets import Digits
from trainer.full_trainer import FullTrainer
from utils.batch import split

NO_DROPOUT = {"type": "LeNet", "args": {"num_classes": 10, "channels": [4, 8], "hidden": 16, "dropout": 0.0}}
BATCH = torch.utils.data.default_collate([Digits("train")[i] for i in range(64)])


class Normed(nn.Module):
    """With batch norms, dropout and blocks of a class of their own."""

    class Block(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.conv = nn.Conv2d(channels, channels, 3, padding=1)
            self.norm = nn.BatchNorm2d(channels)
            self.dropout = nn.Dropout(0.5)

        def forward(self, features):
            return features + self.dropout(F.relu(self.norm(self.conv(features))))

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.blocks = nn.Sequential(*(self.Block(4) for _ in range(3)))
        self.head = nn.Linear(256, 10)

    def forward(self, images):
        return F.log_softmax(self.head(self.blocks(self.stem(images)).flatten(1)), dim=1)


@pytest.fixture
def steps(project, write_into):
    """Make some steps on a batch; the trainer, and what each step said."""
    write_into(model.model, Normed)

    def make(count=3, batch=BATCH, model=NO_DROPOUT, **args):
        name = "FullTrainer" if args.keys() - {"max_grad_norm"} else "Trainer"
        built = project.trainer(model=model, trainer={"type": name, "args": args})
        built.set_training(True)
        torch.manual_seed(0)
        results = []
        for _ in range(count):
            result = built.result_of(built.train_step, batch)
            assert result.count == len(batch[1])
            results.append({name: value.item() for name, value in result.means.items()})
        return built, results

    return make


def assert_near(first, second, tolerance):
    for name, value in state_of(first.model).items():
        assert torch.allclose(value, state_of(second.model)[name], rtol=tolerance, atol=tolerance), name


@pytest.mark.parametrize("size", [1, 10, 32, 63])
def test_micro_batches_make_the_same_step(steps, size):
    plain, expected = steps()
    parts, found = steps(micro_batch_size=size)
    assert_near(plain, parts, 1e-6)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-5)


def test_a_micro_batch_as_large_as_the_batch_is_the_plain_step(steps):
    (plain, expected), (whole, found) = steps(), steps(micro_batch_size=64)
    assert_same(state_of(plain.model), state_of(whole.model))
    assert found == expected


def test_what_a_batch_is_made_of_is_cut_by_samples():
    batch = {"tokens": torch.arange(5), "texts": list("abcde"), "weights": (torch.ones(5, 2), torch.tensor(3.0))}
    parts, sizes = zip(*split(batch, 5, 3), strict=True)
    first, _, last = parts
    assert sizes == (1, 2, 2)
    assert [part["tokens"].tolist() for part in parts] == [[0], [1, 2], [3, 4]]  # as equal as can be
    assert first["texts"] == ["a"] and first["weights"][0].shape == (1, 2)
    assert last["texts"] == ["d", "e"] and last["weights"][1] == 3.0


def test_bf16_computes_in_bf16_and_keeps_the_weights_in_float32(steps):
    plain, expected = steps()
    mixed, found = steps(amp="bf16")
    dtypes = []
    mixed.model.fc1.register_forward_hook(lambda module, inputs, output: dtypes.append(output.dtype))
    with torch.no_grad():
        mixed.result_of(mixed.valid_step, BATCH)
    assert dtypes == [torch.bfloat16]
    assert all(value.dtype == torch.float32 for value in mixed.model.state_dict().values())
    assert_near(plain, mixed, 2e-2)
    assert found[-1]["loss"] == pytest.approx(expected[-1]["loss"], rel=2e-2) and found != expected


def test_fp16_scales_the_loss_and_skips_what_overflows(steps):
    plain, expected = steps()
    mixed, found = steps(amp="fp16")
    assert mixed.scaler.get_scale() == 65536.0 and mixed.scaler.is_enabled()
    assert [result["skipped"] for result in found] == [0.0, 0.0, 0.0]
    assert_near(plain, mixed, 2e-2)
    assert found[-1]["grad_norm"] == pytest.approx(expected[-1]["grad_norm"], rel=5e-2)  # of unscaled gradients
    before = state_of(mixed.model)
    mixed.scaler.update(2.0**40)
    skipped = mixed.result_of(mixed.train_step, BATCH).means
    assert skipped["skipped"] == 1.0 and skipped["grad_norm"] == 0.0
    assert_same(before, state_of(mixed.model))
    assert mixed.scaler.get_scale() == 2.0**39


def test_the_scale_survives_a_stop(run_with_stops):
    run_with_stops(3, 7, trainer={"args": {"amp": "fp16", "max_grad_norm": 1.0}})


def test_a_run_goes_on_over_a_skipped_step(project, write_into):
    class Starting(FullTrainer):
        def __init__(self, **parts):
            super().__init__(**parts)
            self.scaler.__init__("cpu", init_scale=2.0**28)

    write_into(trainer.trainer, Starting)
    run = project.train(trainer={"type": "Starting", "args": {"amp": "fp16"}, "epochs": 2})
    first, second = metrics_of(run)
    assert 0 < first["skipped"] < 1 and second["skipped"] == 0 and second["loss"] < first["loss"]


def test_the_average_is_what_is_scored_and_what_others_load(project):
    run = project.train(trainer={"type": "FullTrainer", "args": {"ema_decay": 0.9}, "monitor": "min val_loss"})
    checkpoint = load(run / "model_best.pth")
    assert any(not torch.equal(checkpoint["model"][name], value) for name, value in checkpoint["trained_model"].items())
    scores, _ = project.test("-r", run, "--split", "valid")
    best = min(metrics_of(run), key=lambda line: line["val_loss"])
    assert scores["loss"] == pytest.approx(best["val_loss"], rel=1e-6)


def test_the_average_follows_the_weights(steps):
    plain, _ = steps(0)
    expected, decay = state_of(plain.model), 0.9
    averaged, _ = steps(0, ema_decay=decay)
    for _ in range(3):
        averaged.result_of(averaged.train_step, BATCH)
        for name, value in averaged.model.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value
    for name, value in averaged.stateful()["model"].state_dict().items():
        assert torch.allclose(value, expected[name], atol=1e-6), name


def test_the_average_survives_a_stop(run_with_stops):
    run_with_stops(3, 7, trainer={"args": {"ema_decay": 0.99}})


def test_a_compiled_step_is_the_plain_one(steps, project):
    plain, expected = steps()
    compiled, found = steps(compile=True)
    assert_near(plain, compiled, 1e-5)
    assert list(compiled.stateful()["model"].state_dict()) == list(plain.model.state_dict())
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


@pytest.mark.parametrize("patterns", ["Block", ["blocks.0", "blocks.[12]"], "blocks"])
def test_activation_checkpointing_changes_nothing_but_memory(steps, patterns):
    plain, expected = steps(model="Normed")
    forgetful, found = steps(model="Normed", activation_checkpointing=patterns)
    assert_same(state_of(plain.model), state_of(forgetful.model))
    assert found == expected


def test_activation_checkpointing_computes_twice(steps):
    built, _ = steps(0, model="Normed", activation_checkpointing="blocks.0")
    calls = []
    for number, block in enumerate(built.model.blocks):
        block.conv.register_forward_hook(lambda *_, number=number: calls.append(number))
    built.result_of(built.train_step, BATCH)
    assert calls == [0, 1, 2, 0]


def test_what_only_saves_memory_or_time_may_change_when_a_run_goes_on(project):
    run = project.train(model=NO_DROPOUT, trainer={"epochs": 1})
    other = project.train(model=NO_DROPOUT, trainer={"epochs": 2})
    options = ["type=FullTrainer", "args.micro_batch_size=16", "args.activation_checkpointing=conv*"]
    project.resume(run, "--set", "trainer.epochs=2", *(f"trainer.{option}" for option in options))
    assert metrics_of(run)[-1] == pytest.approx(metrics_of(other)[-1], rel=1e-4)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"amp": "fp32"}, "trainer.args.amp: found 'fp32'. Choices: bf16, fp16, off."),
        (
            {"micro_batch_size": 0},
            "trainer.args: FullTrainer cannot be made: micro_batch_size is 0, not a number of samples.",
        ),
        ({"micro_batch_size": "all"}, "trainer.args.micro_batch_size: found 'all'."),
        ({"ema_decay": 1.0}, "FullTrainer cannot be made: ema_decay is 1.0, not a number from 0 to below 1."),
        (
            {"activation_checkpointing": "Blok"},
            "FullTrainer cannot be made: activation_checkpointing: no module has the name or the class 'Blok'.",
        ),
    ],
)
def test_what_cannot_be_is_refused(project, args, message):
    assert message in project.refused_config(trainer={"type": "FullTrainer", "args": args})


@pytest.mark.parametrize("option", ["micro_batch_size", "amp", "ema_decay", "compile", "activation_checkpointing"])
def test_an_option_of_the_other_trainer_is_refused_with_its_name(project, option):
    message = project.refused_config(trainer={"args": {option: None}})
    assert message == (
        f"error: trainer.args.{option}: Trainer takes no such argument. "
        'FullTrainer has it: write "type": "FullTrainer".\n'
    )


class Bare(FullTrainer):
    """Its step does nothing that an option asks for, or one thing of all."""

    does = None

    def train_step(self, batch):
        inputs, targets = batch
        self.optimizer.zero_grad()
        with self.precision.autocast() if self.does == "amp" else nullcontext():
            loss = self.loss_fn(self.forward(inputs), targets)
        loss.backward()
        self.optimizer.step()
        if self.does == "ema_decay":
            self.ema.update()
        return StepResult({"loss": loss}, len(targets))


@pytest.mark.parametrize("option", [{"ema_decay": 0.9}, {"micro_batch_size": 8}, {"amp": "bf16"}])
def test_an_option_that_the_step_ignores_is_refused(project, write_into, monkeypatch, option):
    write_into(trainer.trainer, Bare)
    ((name, _),) = option.items()
    message = project.refused_config(trainer={"type": "Bare", "args": option})
    assert message.startswith(f"error: trainer.args.{name}: train_step of Bare does nothing with it. ")
    monkeypatch.setattr(Bare, "does", name)
    if name != "micro_batch_size":
        project.train(trainer={"type": "Bare", "args": option, "epochs": 1})


class Heavy(model.model.LeNet):
    """Asks for more memory than there is in the world where a batch is larger than it likes."""

    most = 20

    def __init__(self):
        super().__init__(10, channels=(4, 8), hidden=16)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images):
        self.calls += self.training
        outputs = super().forward(images)
        if self.training and len(images) > self.most:
            torch.empty(1 << 50)
        return outputs


def test_auto_finds_a_size_that_fits_and_repeats_the_batch(project, write_into, monkeypatch):
    write_into(model.model, Heavy)
    auto = {"type": "FullTrainer", "args": {"micro_batch_size": "auto"}, "epochs": 1}
    config = project.write_config(model="Heavy", trainer=auto)
    code, out, err = project.command(train_script, "-c", config)
    assert code == 0, err
    assert "Out of memory: going on with micro-batches of 32 samples." in out
    assert "Out of memory: going on with micro-batches of 16 samples." in out
    found = project.run_dirs()[-1]
    assert load(found / "last.pth")["micro_batches"] == {"size": 16}
    expected = project.train(model="Heavy", trainer=auto | {"args": {"micro_batch_size": 16}})
    one, other = load(found / "last.pth"), load(expected / "last.pth")
    assert_same(one["model"], other["model"])  # dropout, and a buffer that counts calls, too
    assert_same(one["rng"], other["rng"])
    assert metrics_of(found) == metrics_of(expected)
    out = project.resume(found, "--set", "trainer.epochs=2")
    assert "Out of memory" not in out


def test_auto_ends_where_a_single_sample_does_not_fit(project, write_into, monkeypatch):
    write_into(model.model, Heavy)
    monkeypatch.setattr(Heavy, "most", 0)
    config = project.write_config(model="Heavy", trainer={"type": "FullTrainer", "args": {"micro_batch_size": "auto"}})
    code, _, err = project.command(train_script, "-c", config)
    assert code == 1 and "error: step 1: out of memory" in err and project.run_dirs() == []
