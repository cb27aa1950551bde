"""Numbers that no 64 bits hold, in every file that a command reads: a message, or as if they were not there."""

import json
import time

import pytest
import torch
from conftest import load

import test as test_script
import train as train_script
from utils.distributed.launch import check_launch
from utils.exit_codes import exit_code_of

NUMBERS = {"310 figures": f"1{'0' * 310}", "5,000 figures": f"-1{'0' * 5000}", "infinite": "1e400"}
HERE = "a place for a number"


@pytest.fixture(params=NUMBERS)
def number(request):
    return NUMBERS[request.param]


def texts_with(value, number):
    """Yield the JSON of a value with one of its numbers replaced, for each of them."""
    for path in list(_paths(value)):
        changed = json.loads(json.dumps(value))
        holder = changed
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = HERE
        yield path, json.dumps(changed).replace(f'"{HERE}"', number)


def _paths(value, path=()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _paths(item, (*path, key))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path


def assert_told(project, script, *arguments, codes=(0, 1, 2)):
    """The command ends with one of these codes, and no traceback; its output."""
    code, out, err = project.command(script, *arguments)
    assert code in codes and "Traceback" not in err + out, (arguments, code, err[-2000:])
    assert code == 0 or any(line.startswith("error: ") for line in err.splitlines()), (arguments, code, err[-2000:])
    assert all(len(line) < 1000 for line in (out + err).splitlines()), (arguments, err[:3000])
    return out + err


def test_a_long_one_takes_no_time(project):
    path = project.folder / "long.json"
    path.write_text(project.write_config().read_text().replace("0.001", "1" * 900_000))
    start = time.monotonic()
    assert f"optimizer.args.lr: {'1' * 40}... is not finite." in project.refused("-c", path)
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("kind", ["json", "yaml"])
def test_in_a_config(project, number, kind):
    config = json.loads(project.write_config(trainer={"epochs": 1}).read_text())
    config["optimizer"]["args"] |= {"betas": [0.9, 0.99], "weight_decay": 0.0}
    path = project.folder / f"huge.{kind}"
    for where, text in list(texts_with(config, number))[::2]:
        path.write_text(text)
        said = assert_told(project, train_script, "-c", path, codes=(2,))
        assert where[-1] == 0 or str(where[-1]) in said


def test_in_the_files_of_a_run(project, number):
    config = project.write_config(trainer={"epochs": 1, "monitor": "min val_loss"})
    run = project.train_with(config)
    for name in ("config.json", "environment.json", "metrics.jsonl"):
        path = run / name
        before = path.read_text()
        for _, text in texts_with(json.loads(before), number):
            path.write_text(text)
            assert_told(project, train_script, "-c", config, "-r", "auto")
            assert_told(project, train_script, "-r", run)
            path.write_text(before)


def test_in_the_note_of_a_failure(project, number):
    run = project.train()
    (run / "failure.json").write_text(f'{{"step": {number}, "name": "loss"}}')
    assert "the run has met nothing to repeat" in project.refused("-r", run, "--replay")


@pytest.mark.parametrize("name", ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "PMI_SIZE", "RANK", "WORLD_SIZE"])
def test_in_the_environment(monkeypatch, capfd, number, name):
    monkeypatch.setenv(name, number.lstrip("-"))
    code, err = exit_code_of(check_launch), capfd.readouterr().err
    assert code == (2 if name in ("RANK", "WORLD_SIZE") else 0), err
    assert len(err) < 700 and "Traceback" not in err


def test_in_the_values_of_several_runs(project, number):
    config = project.write_config(trainer={"epochs": 1})
    command = ("-c", config, "--seeds", "1,2")
    project.train_with(*command[1:])
    run, other = project.run_dirs()
    (run / "metrics.jsonl").write_text(
        f'{{"epoch": {number}}}\n[3\n{{"epoch": 1, "val_loss": {number}, "val_x": 0.5}}\n'
    )
    (other / "metrics.jsonl").write_text('{"epoch": 1, "val_loss": 0.5, "val_x": 0.5}\n')
    assert_told(project, train_script, *command, codes=(0,))
    summary = json.loads((run.parent / "summary.json").read_text(), parse_constant=pytest.fail)
    assert summary["mean"].get("val_x") == 0.5 and "val_loss" not in summary["mean"]
    (run / "metrics.jsonl").unlink()
    assert_told(project, train_script, *command, codes=(0,))


COUNTERS = {
    "epoch": ("epoch",),
    "step": ("step",),
    "batches.taken": ("batches", "taken"),
    "monitor.best_values": ("monitor", "best_values", "epoch"),
    "monitor": ("monitor", "best_values", "val_loss"),
    "epoch_so_far": ("epoch_so_far", "learning_rates", "lr"),
    "config": ("config", "data_loader", "batch_size"),
}


@pytest.mark.parametrize("value", [10**310, -(10**600), float("inf"), 10**5000], ids=["310", "600", "inf", "5000"])
def test_in_a_checkpoint(project, value):
    run = project.train(trainer={"save_steps": 27, "keep_last": None, "monitor": "min val_loss"})
    for key, (*parents, last) in COUNTERS.items():
        checkpoint = load(run / "checkpoint-step27.pth")
        holder = checkpoint
        for name in parents:
            holder = holder[name]
        holder[last] = value
        torch.save(checkpoint | {"format": 1}, run / "last.pth")
        if value == float("inf") and key in ("monitor", "epoch_so_far", "config"):
            assert_told(project, train_script, "-r", run / "last.pth")
            continue
        for script in train_script, test_script:
            message = assert_told(project, script, "-r", run / "last.pth", codes=(2,))
            is_readable = value in (10**310, -(10**600), float("inf"))
            assert (
                not is_readable
                or f"has something else than a run's own values in {parents[0] if parents else last}" in message
            )
