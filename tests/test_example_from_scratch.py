"""examples/from_scratch: what is written by hand does what torch's own does, and the page shows what is printed."""

import json
import re
import runpy

import pytest
import torch
from conftest import ROOT, load, run_python
from torch import nn
from torch.nn import functional as F

from examples.from_scratch import by_hand, module_state, reference, zero_grad
from examples.from_scratch.data import MiddlePixels
from examples.from_scratch.hooks import watch
from examples.from_scratch.model import HandLinear, Linear, MeanSquaredError, mean_squared_error
from examples.from_scratch.optimizer import GradientDescent

HERE = ROOT / "examples" / "from_scratch"
README = (HERE / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def train(project):
    """Train the config, with changes; its run directory."""

    def train(*changes):
        settings = [f"trainer.save_dir={project.folder}/saved", "trainer.tensorboard=false", *changes]
        return project.train_with(HERE / "config.json", "--set", *settings)

    return train


# ---- the template's run ----


def test_the_run_reaches_the_least_squares_solution(project, train):
    run = train()
    weights = torch.cat([values.flatten() for values in load(run / "last.pth")["model"].values()])
    solution = reference.least_squares(MiddlePixels("train"))
    assert weights.tolist() == pytest.approx(solution.tolist(), abs=1e-5)
    values, _ = project.test("-r", run)
    least = reference.error_of(solution, MiddlePixels("test"))
    assert values["loss"] == pytest.approx(least, rel=1e-4) and least == pytest.approx(0.0470, abs=5e-5)
    normal = torch.cat([MiddlePixels("train").neighbours, torch.ones(1259, 1)], dim=1).double()
    residuals = MiddlePixels("train").pixels - normal @ solution[:, None]
    assert (normal.T @ residuals).abs().max() < 1e-9  # what the solution leaves over is orthogonal to all columns


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_stopped_run_ends_as_one_that_never_stopped(run_with_stops, momentum):
    config = json.loads((HERE / "config.json").read_text())
    config["optimizer"]["args"]["momentum"] = momentum
    sections = {key: config[key] for key in ("model", "dataset", "loss", "optimizer")}
    run_with_stops(2, 5, 8, metrics=[], lr_scheduler=None, **sections)


def test_a_rate_that_cannot_be_is_an_error(project):
    message = project.refused("-c", HERE / "config.json", "--set", "optimizer.args.momentum=1")
    assert "GradientDescent cannot be made: lr is 0.1, momentum 1" in message


def test_the_reference_is_printed_beside_runs_and_drawn(project, train):
    runs = [train("trainer.epochs=2", f"optimizer.args.momentum={momentum}") for momentum in (0.9, 0)]
    code, out, err = project.command(reference, *runs, "--plot", project.folder / "plot.png")
    lines = out.splitlines()
    assert code == 0 and err == "" and lines[2] == "weight of     least squares    run 1    run 2"
    assert re.fullmatch(r"above +0\.4270  +0\.\d{4}  +0\.\d{4}", lines[4])
    assert (project.folder / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert "no such run directory or checkpoint" in project.refused(project.folder / "nothing", script=reference)
    other = project.train(trainer={"epochs": 1})
    assert "is of another model than this example's." in project.refused(other, script=reference)


# ---- by hand ----


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(("samples", "inputs", "outputs"), [(5, 3, 2), (1, 1, 1), (4, 2, 3)])
def test_the_backward_passes_are_the_derivatives(samples, inputs, outputs):
    torch.manual_seed(0)
    assert torch.autograd.gradcheck(Linear.apply, (random(samples, inputs), random(outputs, inputs), random(outputs)))
    assert torch.autograd.gradcheck(MeanSquaredError.apply, (random(samples, outputs), random(samples, outputs)))


def test_both_ways_of_training_give_the_same_weights():
    for mine, theirs in zip(by_hand.by_hand().parameters(), by_hand.by_torch().parameters(), strict=True):
        assert torch.allclose(mine, theirs, rtol=0, atol=1e-6) and mine.abs().max() > 1e-4


def descend(optimizer, weight, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        F.mse_loss(weight, torch.arange(3.0)).backward()
        optimizer.step()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_optimizer_is_that_of_torch_and_goes_on_from_its_state(momentum):
    mine, theirs, stopped = (torch.ones(3, requires_grad=True) for _ in range(3))
    descend(GradientDescent([mine], 0.1, momentum), mine, steps=6)
    descend(torch.optim.SGD([theirs], 0.1, momentum), theirs, steps=6)
    assert torch.allclose(mine, theirs, rtol=0, atol=1e-6)
    first, second = GradientDescent([stopped], 0.1, momentum), GradientDescent([stopped], 0.5)
    descend(first, stopped, steps=3)
    second.load_state_dict(first.state_dict())
    descend(second, stopped, steps=3)
    assert torch.equal(mine, stopped)


def test_a_frozen_weight_is_left_alone():
    weights = [torch.ones(2, requires_grad=True) for _ in range(2)]
    weights[0].sum().backward()
    GradientDescent(weights, lr=0.5).step()
    assert weights[0].tolist() == [0.5, 0.5] and weights[1].tolist() == [1, 1]


def test_a_sample_is_a_pixel_and_those_around_it():
    from data_loader.datasets import Digits

    samples = MiddlePixels("test")
    image = Digits("test").images[7, 0].float() / 16
    around = [image[3, 3], image[3, 4], image[3, 5], image[4, 3], image[4, 5], image[5, 3], image[5, 4], image[5, 5]]
    assert torch.equal(samples[7][0], torch.stack(around)) and samples[7][1].tolist() == [image[4, 4]]
    assert [len(MiddlePixels(split)) for split in ("train", "valid", "test")] == [1259, 179, 359]


# ---- the lectures ----


def test_without_zero_grad_the_loss_never_settles():
    right, wrong = zero_grad.losses(60, calls_zero_grad=True), zero_grad.losses(60, calls_zero_grad=False)
    assert right[0] == wrong[0] and right[1] == wrong[1]  # the first two steps have nothing to add up
    assert all(after < before for before, after in zip(right, right[1:], strict=False))
    assert max(wrong[40:]) > 0.9 * wrong[0]


def test_hooks_tell_shapes_and_can_be_taken_out(capsys):
    model = nn.Sequential(nn.Linear(4, 2))
    handles = watch(model)
    model(torch.ones(3, 4, requires_grad=True)).sum().backward()
    assert "grad_output (3, 2), grad_input (3, 4)" in capsys.readouterr().out
    for handle in handles:
        handle.remove()
    model(torch.ones(3, 4))
    assert capsys.readouterr().out == ""


def test_what_is_lost_in_the_file_is_what_the_table_says():
    model, other = module_state.Example(), module_state.Example()
    with torch.no_grad():
        for name in module_state.NAMES:
            getattr(model, name).fill_(7)
    other.load_state_dict(module_state.read_back(model))
    values = {name: getattr(other, name)[0].item() for name in module_state.NAMES}
    assert values == {"parameter": 7, "buffer": 7, "temporary": 1, "plain": 1}


# ---- the page ----

SHOWN = re.findall(r"```sh\npython -m examples\.from_scratch\.(\w+)\n```\n\n```text\n(.*?)```", README, re.DOTALL)


def test_the_page_shows_what_every_lecture_prints():
    lectures = {path.stem for path in HERE.glob("*.py") if "\ndef main() -> None:" in path.read_text()}
    assert {name for name, _ in SHOWN} == lectures and len(lectures) == 4


@pytest.mark.parametrize(("name", "shown"), SHOWN, ids=[name for name, _ in SHOWN])
def test_the_page_shows_what_is_printed(name, shown, capsys):
    runpy.run_path(str(HERE / f"{name}.py"), run_name="__main__")
    assert_like(capsys.readouterr().out, shown)


def assert_like(printed, shown):
    """The same words; numbers with a point may differ in the last place, as processors do."""
    assert len(printed.splitlines()) == len(shown.splitlines())
    for one, other in zip(printed.split(), shown.split(), strict=True):
        is_number = re.fullmatch(r"-?\d+\.\d+|\d+e-\d+", other) is not None
        assert float(one) == pytest.approx(float(other), abs=2e-3) if is_number else one == other


def test_a_lecture_is_a_command():
    done = run_python("-W", "error", "-m", "examples.from_scratch.hooks")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout == dict(SHOWN)["hooks"]


def test_the_page_says_in_korean_what_is_here_and_how_to_run_it():
    (paragraph,) = re.findall(r"\A# .*?\n\n(.*?)\n\n", README, re.DOTALL)
    assert paragraph.startswith("**한국어.**")
    assert "python train.py -c examples/from_scratch/config.json" in paragraph.replace("\n", " ")
    links = re.findall(r"\]\((?!http)([^)]+)\)", README)
    assert links == ["distance.png"] and (HERE / "distance.png").is_file()


def test_a_mistake_in_the_backward_pass_is_found():
    class Forgetful(MeanSquaredError):
        @staticmethod
        def backward(ctx, grad_loss):
            return tuple(grad / 2 for grad in MeanSquaredError.backward(ctx, grad_loss))

    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(Forgetful.apply, (random(2, 1), random(2, 1)))


def test_the_layer_starts_at_zero_and_is_saved():
    model = HandLinear(3, 2)
    assert {name: tuple(values.shape) for name, values in model.state_dict().items()} == {
        "weight": (2, 3),
        "bias": (2,),
    }
    assert mean_squared_error(model(torch.ones(4, 3)), torch.full((4, 2), 3.0)).item() == 9.0
