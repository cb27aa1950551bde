"""A model of many parameter tensors: what a run does for each of them is done once, and undone."""

import cProfile
import pstats

import pytest
import torch
from conftest import state_of
from torch import nn

import model.model
import train as train_script
from base.base_model import MOST_ROWS, summary
from base.checks.rehearsal import rehearsal
from utils.snapshot import MOST_ITEMS


class Many(nn.Module):
    def __init__(self, tensors: int):
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.ones(1)) for _ in range(tensors)])
        self.out = nn.Linear(64, 10)

    def forward(self, images):
        return torch.log_softmax(self.out(images.flatten(1)) + torch.stack(list(self.weights)).sum(), dim=1)


class ManyLayers(nn.Module):
    def __init__(self, tensors: int):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(1, 1) for _ in range(tensors // 2)])
        self.out = nn.Linear(64, 10)

    def forward(self, images):
        sums = torch.stack([layer(images.new_ones(1)) for layer in self.layers]).sum()
        return torch.log_softmax(self.out(images.flatten(1)) + sums, dim=1)


@pytest.mark.parametrize("kind", [Many, ManyLayers])
def test_calls_grow_as_the_tensors_do(project, write_into, kind):
    """From a new run to its end, and in a resumed one."""
    write_into(model.model, kind)

    def calls(tensors):
        section = {"type": kind.__name__, "args": {"tensors": tensors}, "freeze": "*[13579]*"}
        options = {"epoch_steps": 1, "valid_steps": 1, "monitor": "min val_loss"}
        found = []
        for make in (
            lambda: ["-c", project.write_config(model=section, trainer=options | {"epochs": 1})],
            lambda: ["-r", project.run_dirs()[-1], "--set", "trainer.epochs=2"],
        ):
            arguments = make()
            with cProfile.Profile() as profile:
                code, _, err = project.command(train_script, *arguments)
            assert code == 0, err
            found.append(pstats.Stats(profile).total_calls)
        return torch.tensor(found)

    calls(10)  # what is imported and compiled once
    few, half, all_of_them = calls(10), calls(500), calls(1000)
    ratios = (all_of_them - few) / (half - few)
    assert ratios.max() <= 2.3, (few, half, all_of_them)


def test_a_rehearsal_leaves_no_trace_in_a_model_of_many_tensors(project, write_into):
    """A list or dict of so many items is not looked into, unless it belongs to a module or an optimizer."""
    write_into(model.model, Many)
    trainer = project.trainer(model={"type": "Many", "args": {"tensors": MOST_ITEMS + 1}})
    weights = list(trainer.model.parameters())
    trainer.optimizer.state.update({weight: {"momentum": torch.ones(1)} for weight in weights})
    before = state_of(trainer.model)
    with rehearsal(trainer), torch.no_grad():
        for weight in weights:
            weight.add_(1)
            trainer.optimizer.state[weight]["momentum"].add_(1)
            trainer.optimizer.state[weight]["steps"] = 1
    after = trainer.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(trainer.optimizer.state[weight] == {"momentum": torch.ones(1)} for weight in weights)


def test_a_summary_of_many_modules_is_short():
    network = nn.Sequential(*(nn.Linear(2, 2) for _ in range(MOST_ROWS + 50)))
    lines = summary(network).splitlines()
    assert len(lines) == MOST_ROWS + 5
    assert lines[-3].startswith("(50 more)") and lines[-1].split()[2] == str(6 * (MOST_ROWS + 50))
    assert "more)" not in summary(network[:MOST_ROWS])
