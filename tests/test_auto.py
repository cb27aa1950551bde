"""`-r auto`: one command line that starts, goes on, or says that it is done; and one process at a time in a run."""

import json
import os
import shutil

import pytest
import torch
from conftest import ROOT, assert_same, load, metrics_of, run_python, start_training, wait_for

import train as train_script
import utils.checkpoints.auto
from utils.checkpoints.lock import RunLock
from utils.checkpoints.resume import read_source
from utils.checkpoints.run_checkpoints import open_checkpoint
from utils.config.loading import load_config
from utils.config.places import Places


def auto(project, *arguments, code=0, **sections):
    """The same command line again; its output."""
    found, out, err = project.command(train_script, "-c", project.write_config(**sections), "-r", "auto", *arguments)
    assert found == code, out + err
    return out + err


def test_the_same_command_line_starts_then_goes_on_then_says_it_is_finished(project):
    whole = project.train(trainer={"epochs": 3})
    project.folder = project.folder / "second"
    project.folder.mkdir()
    project.config["trainer"]["save_dir"] = str(project.folder / "saved")
    assert "New run in" in auto(project)
    (run,) = project.run_dirs()
    before = load(run / "last.pth")
    for _ in range(2):
        assert f"{run} is finished: epoch 2 of 2." in auto(project)
        assert_same(before, load(run / "last.pth"))
    assert "Going on after epoch 2" in auto(project, trainer={"epochs": 3})
    assert project.run_dirs() == [run] and metrics_of(run) == metrics_of(whole)


def test_the_newest_unfinished_run_goes_on(project):
    oldest, middle, newest = (project.train(trainer={"epochs": epochs}) for epochs in (1, 1, 2))
    assert f"Going on after epoch 1 in {middle}" in auto(project)
    assert f"Going on after epoch 1 in {oldest}" in auto(project)
    assert f"{newest} is finished" in auto(project)
    assert len(project.run_dirs()) == 3


def test_runs_of_another_config_or_name_are_left_alone(project):
    other = project.train("--lr", "0.01", trainer={"epochs": 1})
    project.train("--set", "name=other", trainer={"epochs": 1})
    out = auto(project)
    assert f"{other} has another config (optimizer.args.lr) and is not continued." in out and "New run in" in out
    assert len(metrics_of(other)) == 1


def test_what_may_change_may_change(project):
    run = project.train(trainer={"epochs": 1})
    auto(project, "--set", "data_loader.num_workers=1")
    assert project.run_dirs() == [run] and len(metrics_of(run)) == 2


def test_a_run_that_was_killed_before_its_first_checkpoint_is_no_run(project):
    run = project.train(trainer={"epochs": 1})
    for path in run.glob("*.pth"):
        path.unlink()
    assert "New run in" in auto(project)


def test_runs_of_one_second_are_in_order(project):
    run = project.train(trainer={"epochs": 1})
    tenth, ninth = (run.with_name(f"{run.name}_{number}") for number in (10, 9))
    for copy in (tenth, ninth):
        shutil.copytree(run, copy)
    assert f"Going on after epoch 1 in {tenth}" in auto(project)


def test_a_clock_that_went_backwards_hides_no_unfinished_run(project):
    run = project.train()
    later = run.rename(run.with_name("29991231-235959"))
    unfinished = project.train(trainer={"epochs": 1})
    assert f"Going on after epoch 1 in {unfinished}" in auto(project)
    assert f"{later} is finished" in auto(project)


@pytest.mark.parametrize(
    "arguments", [["-r", "auto"], ["-c", "config.json", "-r", "saved/x"], ["-r", "auto", "--replay"]]
)
def test_auto_goes_with_a_config_and_only_auto(project, arguments):
    assert "-r auto" in project.refused(*arguments)


def test_a_run_within_an_epoch_or_with_another_monitor_is_not_finished(project):
    run = project.train(trainer={"epochs": 3, "save_steps": 25, "keep_last": None})
    (run / "last.pth").unlink()
    (run / "checkpoint-step50.pth").rename(run / "last.pth")
    assert "Going on after step 50, within epoch 3" in auto(project)
    constant = [{"type": "top_k_accuracy", "args": {"k": 10}, "name": "constant"}]
    stopped = {"name": "stopped", "metrics": constant}
    patient = {"early_stop": 2, "epochs": 9, "monitor": "max val_constant"}
    auto(project, **stopped, trainer=patient)
    assert "is finished: epoch 3 of 9" in auto(project, **stopped, trainer=patient)
    assert "Going on after epoch 3" in auto(project, **stopped, trainer=patient | {"monitor": "min val_loss"})


def test_init_from_counts_where_auto_starts_a_run(project):
    first = project.train()
    auto(project, "--init-from", first, "--set", "name=second")
    (second,) = (project.folder / "saved" / "second").glob("*-*")
    out = auto(project, "--init-from", first, "--set", "name=second", "trainer.epochs=3")
    assert "--init-from is not used: there is a run to go on with, from its own weights." in out
    assert [line["epoch"] for line in metrics_of(second)] == [1, 2, 3]


@pytest.fixture
def alive(project):
    """A run under way in another process, and its directory."""
    process = start_training(
        "-c", project.write_config(data_loader={"batch_size": 2, "num_workers": 2}, trainer={"epochs": 10_000})
    )
    wait_for(lambda: list(project.folder.rglob("last.pth")) or process.poll(), "the first checkpoint")
    (run,) = project.run_dirs()
    yield process, run
    process.kill()
    process.communicate()


def test_a_run_that_is_alive_is_refused(project, alive):
    process, run = alive
    before = (run / "environment.json").read_bytes()
    for arguments in (["-r", run], ["-r", run / "last.pth"], ["-r", run, "--set", "trainer.epochs=3"]):
        message = project.refused(*arguments)
        assert message == (
            f"error: {run}: another process is training there; environment.json says which, on which host.\n"
        )
    same = {"data_loader": {"batch_size": 2, "num_workers": 2}, "trainer": {"epochs": 10_000}}
    assert "another process is training there" in auto(project, code=2, **same)
    assert (run / "environment.json").read_bytes() == before
    assert json.loads(before)[0]["process"] == process.pid
    project.test("-r", run)


def test_a_killed_run_is_free_at_once_though_its_workers_live_on(project, alive):
    process, run = alive
    process.kill()
    process.wait()
    project.resume(run, "--set", "trainer.epochs=1", "data_loader.num_workers=0")
    assert load(run / "last.pth")["epoch"] >= 1


TRY = "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; "
TRY += "from utils.checkpoints.lock import RunLock; RunLock().take(Path(sys.argv[2]))"


def test_only_the_run_that_goes_on_is_locked(project):
    unfinished, finished = (project.train(trainer={"epochs": epochs}) for epochs in (1, 2))
    with RunLock() as lock:
        read_source(load_config(project.write_config()), "auto", [], lock, Places())
        assert run_python("-c", TRY, ROOT, finished).returncode == 0
        assert "another process is training there" in run_python("-c", TRY, ROOT, unfinished).stderr
    assert run_python("-c", TRY, ROOT, unfinished).returncode == 0


def test_a_default_that_is_written_out_is_no_change(project):
    run = project.train()
    out = project.resume(run, "--set", "model.strict=true", "lr_scheduler.interval=epoch", "trainer.epochs=3")
    assert "Going on after epoch 2" in out


def test_what_a_run_starts_with_is_not_asked_for_again(project):
    """Neither its first weights, which may be gone by then, nor their initialization; what is frozen stays so."""
    first = project.train(name="first")
    model = project.config["model"] | {"weights": str(first), "init": "xavier_normal_", "freeze": "conv1.*"}
    run = project.train(model=model, name="second")
    shutil.rmtree(first)
    out = project.resume(run, "--set", "trainer.epochs=3")
    assert "Going on after epoch 2" in out and "model.init" not in out and "model.weights" not in out
    assert "model.freeze: 40 of" in out
    last, best = (load(run / name)["model"]["conv1.weight"] for name in ("last.pth", "model_best.pth"))
    assert torch.equal(last, best)
    assert project.test("-r", run)[0]["accuracy"] > 0


@pytest.mark.parametrize(("job", "runs"), [("first", 1), ("second", 2)])
def test_what_torchrun_starts_again_goes_on_with_the_run_of_its_own_job(project, monkeypatch, job, runs):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "first")
    project.train(trainer={"epochs": 1})
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", job)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    project.train(trainer={"epochs": 2})
    assert len(project.run_dirs()) == runs


def test_many_runs_of_a_name_are_passed_by_in_one_line(project, caplog):
    for seed in (0, 1, 2):
        project.train(seed=seed, trainer={"epochs": 1})
    caplog.clear()
    project.train("-r", "auto", seed=3, trainer={"epochs": 1})
    (line,) = [record.getMessage() for record in caplog.records if "not continued" in record.getMessage()]
    assert line.startswith("3 runs in ") and line.endswith(" have another config (seed) and are not continued.")


@pytest.mark.parametrize("spelling", ["{folder}/x/../saved", "{link}/saved", "{relative}"])
def test_a_save_dir_that_is_written_differently_is_the_same_run(project, spelling):
    run = project.train(trainer={"epochs": 1})
    (project.folder / "x").mkdir()
    link = project.folder.parent / f"{project.folder.name}-link"
    link.symlink_to(project.folder)
    relative = os.path.relpath(project.folder / "saved", ROOT)
    save_dir = spelling.format(folder=project.folder, link=link, relative=relative)
    assert "Going on after epoch 1" in auto(project, trainer={"save_dir": save_dir})
    assert project.run_dirs() == [run]
    assert "Going on after epoch 2" in project.resume(run, "--set", "trainer.epochs=3")


def test_a_path_in_the_config_that_is_written_differently_is_the_same_run(project):
    first = project.train(name="first")
    model = project.config["model"] | {"weights": str(first)}
    project.train(model=model, name="second", trainer={"epochs": 1})
    model["weights"] = f"{first.parent}/../first/{first.name}"
    assert "Going on after epoch 1" in auto(project, model=model, name="second")


def test_a_tree_that_was_moved_and_renamed_goes_on(project):
    run = project.train(trainer={"epochs": 1})
    (project.folder / "moved").mkdir()
    run.parent.rename(project.folder / "moved" / "renamed")
    out = auto(project, name="renamed", trainer={"save_dir": str(project.folder / "moved")})
    assert f"Going on after epoch 1 in {project.folder}/moved/renamed/{run.name}" in out


@pytest.mark.parametrize("name", ["{run}.bak", "backup-{run}", "{run} (copy)", "old/{run}"])
def test_a_backup_beside_a_run_is_not_the_run(project, name):
    run = project.train(trainer={"epochs": 1})
    backup = run.parent / name.format(run=run.name)
    shutil.copytree(run, backup)
    auto(project)
    assert (len(metrics_of(run)), len(metrics_of(backup))) == (2, 1)


@pytest.mark.parametrize("key", ["name", "trainer.save_dir"])
def test_a_resumed_run_stays_in_its_directory(project, key):
    run = project.train(trainer={"epochs": 1})
    message = project.refused("-r", run, "--set", f"{key}=elsewhere")
    assert f"error: {key}: cannot change when a run is resumed: it stays in its directory." in message


def test_finished_runs_are_known_without_their_checkpoints(project, monkeypatch):
    """Also where the last checkpoint was replaced: then the note is not of it."""
    runs = [project.train() for _ in range(3)]
    opened = []
    monkeypatch.setattr(
        utils.checkpoints.auto, "open_checkpoint", lambda path: opened.append(path) or open_checkpoint(path)
    )
    assert "3 runs in " in auto(project)
    assert opened == [runs[-1]]
    (runs[0] / "checkpoint-epoch1.pth").replace(runs[0] / "last.pth")
    assert f"Going on after epoch 1 in {runs[0]}" in auto(project)
