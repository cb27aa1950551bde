"""examples/gan: two models and two optimizers in one step, and measures that see what each other's do not."""

import json

import pytest
import torch
from conftest import ROOT, Stopping, load, metrics_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from examples.gan import compare
from examples.gan.metric import FrechetDistance, NearestNeighbourAccuracy, frechet_distance
from examples.gan.trainer import GANTrainer

CONFIG = ROOT / "examples" / "gan" / "config.json"


def sections(**trainer):
    """The example's config, without what a test's run has of its own."""
    config = json.loads(CONFIG.read_text())
    args = config["trainer"]["args"]
    parts = {name: config[name] for name in ("model", "dataset", "loss", "metrics", "optimizer")}
    return parts | {"lr_scheduler": None, "trainer": {"args": args, "monitor": config["trainer"]["monitor"]} | trainer}


# ---- the run ----


def test_it_learns_to_draw_digits_and_shows_them(project, capfd):
    settings = [f"trainer.save_dir={project.config['trainer']['save_dir']}", "trainer.epochs=7"]
    run = project.train_with(CONFIG, "--set", *settings)
    last = metrics_of(run)[-1]
    assert last["val_frechet_distance"] < 12  # about 50 untrained
    assert last["val_nearest_neighbour_accuracy"] > 0.5  # about 0.1 untrained
    values, _ = project.test("-r", run)
    assert values["frechet_distance"] < 12 and values["nearest_neighbour_accuracy"] > 0.5
    events = EventAccumulator(str(run), size_guidance={"images": 0}).Reload()
    assert [event.step for event in events.Images("generated")] == [line["step"] for line in metrics_of(run)]
    picture = project.folder / "digits.png"
    compare.main([str(run), str(picture)])
    table = {line[:28].strip(): line[28:].split() for line in capfd.readouterr().out.splitlines()[2:]}
    assert table["training digits"] == ["0.80", "0.38", "0.97", "0.99"]
    assert float(table["one normal of all"][0]) < 1 and float(table["one normal of all"][2]) < 0.3
    assert float(table["the mean of each class"][0]) > 5 and float(table["the mean of each class"][2]) > 0.8
    assert float(table["the generator"][1]) == pytest.approx(values["frechet_distance"], rel=0.2)
    assert picture.stat().st_size > 5000


class Interrupted(Stopping, GANTrainer):
    """Stopped by a signal in one step."""


@pytest.mark.parametrize("in_validation", [False, True])
def test_a_stopped_run_ends_as_one_that_never_stopped(run_with_stops, in_validation):
    stops = (10,) if in_validation else (3, 8)
    run_with_stops(*stops, trainer_class=Interrupted, in_validation=in_validation, **sections())


# ---- the step ----


@pytest.fixture
def trainer(project):
    return project.trainer(**sections(type="examples.gan.trainer.GANTrainer"))


def one_batch(trainer):
    return next(trainer.run.batches["train"].epoch(1))


@pytest.mark.parametrize("at_rest", ["optimizer", "discriminator_optimizer"])
def test_each_optimizer_moves_its_own_model_alone(trainer, at_rest):
    models = {"optimizer": trainer.generator, "discriminator_optimizer": trainer.discriminator}
    for group in trainer.stateful()[at_rest].param_groups:
        group["lr"] = 0.0
    before = {name: [weight.clone() for weight in model.parameters()] for name, model in models.items()}
    trainer.train_step(one_batch(trainer))
    for name, model in models.items():
        moved = [not torch.equal(now, old) for now, old in zip(model.parameters(), before[name], strict=True)]
        assert all(moved) if name != at_rest else not any(moved)


def test_the_discriminator_is_told_what_is_real(trainer):
    """Against a generator at rest it soon knows, and the generator's loss is high where it does."""
    trainer.optimizer.param_groups[0]["lr"] = 0.0
    batch = one_batch(trainer)
    means = [trainer.train_step(batch).means for _ in range(30)]
    assert means[-1]["discriminator_loss"] < 0.5 < 1 < means[0]["discriminator_loss"]
    assert means[-1]["generator_loss"] > 2 * means[0]["generator_loss"]


def test_the_picture_is_of_the_same_noise_each_time_and_draws_no_number_of_the_run(trainer):
    trainer.set_training(False)
    before, state = trainer.picture(), torch.get_rng_state()
    torch.manual_seed(99)
    trainer.picture()
    torch.set_rng_state(state)
    again = trainer.picture()
    assert torch.equal(before, again) and torch.equal(torch.get_rng_state(), state)
    assert before.dtype == torch.uint8 and before.shape == (3, 8 * 34 + 2, 10 * 34 + 2)


def test_what_is_scored_and_saved_is_the_average_of_the_generator(project):
    run = project.train(**sections(type="examples.gan.trainer.GANTrainer", epochs=1))
    saved = load(run / "last.pth")
    assert saved["model"].keys() == saved["trained_model"].keys()
    assert not torch.equal(saved["model"]["layers.0.weight"], saved["trained_model"]["layers.0.weight"])
    assert torch.equal(saved["model"]["layers.1.running_mean"], saved["trained_model"]["layers.1.running_mean"])


# ---- the measures ----


def pair_of_sets(count=50):
    torch.manual_seed(0)
    return [(torch.randn(count, 1, 2, 2), torch.arange(count) % 3) for _ in range(2)]


def test_the_frechet_distance_is_that_of_normal_distributions():
    cloud = torch.randn(400, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(cloud, cloud) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(cloud, cloud + torch.tensor([3.0, 4.0, 0.0])) == pytest.approx(25)
    assert frechet_distance(cloud, 3 * (cloud - cloud.mean(0))) == pytest.approx(
        float(4 * torch.cov(cloud.T).trace() + cloud.mean(0).square().sum())
    )
    first, second = (
        cloud * torch.tensor([1.0, 2.0, 3.0]),
        cloud @ torch.tensor([[1.0, 2, 0], [0, 1, 2], [1, 0, 1]]).double(),
    )
    product = torch.linalg.eigvals(torch.cov(first.T) @ torch.cov(second.T)).real.sqrt().sum()
    traces = torch.cov(first.T).trace() + torch.cov(second.T).trace()
    means = (first.mean(0) - second.mean(0)).square().sum()
    assert frechet_distance(first, second) == pytest.approx(float(means + traces - 2 * product))


def test_a_real_image_is_right_where_its_nearest_generated_one_has_its_class():
    metric = NearestNeighbourAccuracy()
    generated = torch.tensor([0.0, 1.0, 2.0]).view(3, 1, 1, 1), torch.tensor([5, 6, 7])
    metric.update(generated, (torch.tensor([0.1, 0.9, 1.2, 9.0]).view(4, 1, 1, 1), torch.tensor([5, 6, 7, 7])))
    assert metric.compute() == 0.75


@pytest.mark.parametrize("kind", [FrechetDistance, NearestNeighbourAccuracy])
def test_a_measure_of_parts_that_are_merged_is_that_of_the_whole(kind):
    generated, real = pair_of_sets()
    whole, first, second = kind(), kind(), kind()
    whole.update(generated, real)
    for metric, part in ((first, slice(0, 20)), (second, slice(20, None))):
        metric.update(tuple(item[part] for item in generated), tuple(item[part] for item in real))
    first.merge_state([second])
    assert first.compute() == pytest.approx(whole.compute().item(), abs=1e-12)
    first.reset()
    assert first.generated == first.real == []
