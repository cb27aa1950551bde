"""A model that is shared out among processes (parallel fsdp): saved in parts, gone on with by any number of them."""

import io
import os
import pickle
import re
import shutil
import signal
import time
import zipfile
import zlib

import pytest
import torch
from conftest import ROOT, Project, assert_same, load, metrics_of
from ranks import ranks_of, run_dir_with, start_torchrun, torchrun
from test_distributed import assert_close, step_losses

from utils.checkpoints.checkpoint import save_checkpoint
from utils.checkpoints.run_checkpoints import whole_checkpoint

SCRIPT = str(ROOT / "tests" / "faulty_train.py")
FSDP = {"type": "fsdp", "args": {"modules": ["Conv2d"]}}


def write(project, trainer=None, **sections):
    settings = {"epochs": 2, "log_steps": 5, "monitor": "min val_loss"} | (trainer or {})
    arguments = {"type": "Faulty", "args": settings.pop("args")} if "args" in settings else {}
    return project.write_config(
        **{"data_loader": {"batch_size": 128}, "parallel": FSDP, **sections}, trainer=arguments | settings
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two processes without a stop."""
    project = Project(tmp_path_factory.mktemp("whole"), None)
    torchrun_well("-c", write(project, {"save_steps": 3, "keep_last": None}))
    return project.run_dirs()[-1]


@pytest.fixture
def copy(whole, project):
    """A copy of that run, where it may be damaged and gone on with."""
    run = project.folder / "saved" / "digits" / "copy"
    shutil.copytree(whole, run)
    return run


def state_of(run, name="last.pth"):
    """What a checkpoint holds, but its config, as one process would have it."""
    state = whole_checkpoint(run / name)
    return {key: value for key, value in state.items() if key != "config"}


def torchrun_well(*arguments, **options):
    done = torchrun(*arguments, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_sharded_run_is_the_run_of_one_process(project):
    sections = {"model": {"type": "LeNet", "args": project.config["model"]["args"] | {"dropout": 0.0}}}
    sections["trainer"] = {"log_steps": 1, "tensorboard": True, "monitor": "min val_loss"}
    alone = project.train(**sections)
    torchrun_well("-c", project.write_config(**sections, parallel=FSDP))
    run = project.run_dirs()[-1]
    assert_close(metrics_of(run), metrics_of(alone))
    losses, expected = step_losses(run), step_losses(alone)
    assert len(losses) == 40 and losses == pytest.approx(expected, rel=1e-6)
    found, expected = state_of(run), state_of(alone)
    assert found.keys() == expected.keys()
    for name, tensor in expected["model"].items():
        assert torch.allclose(found["model"][name], tensor, rtol=1e-4, atol=1e-5), name
    best = load(run / "model_best.pth")
    assert "shards" not in best and best["format"] == 2 and list(best["model"]) == list(expected["model"])
    assert (run / "train.log").read_text().count("conv1       Conv2d ") == 1
    assert_close([project.test("-r", run)[0]], [project.test("-r", alone)[0]])


def test_each_process_has_written_its_part(whole):
    checkpoint = load(whole / "last.pth")
    folder = whole / checkpoint["shards"]["folder"]
    assert {"__0_0.distcp", "__1_0.distcp", ".metadata"} == {file.name for file in folder.iterdir()}
    assert not any(isinstance(value, torch.Tensor) for value in checkpoint["model"].values())
    tensors = [value for entry in checkpoint["optimizer"]["state"].values() for value in entry.values()]
    assert all(isinstance(value, dict) or value.dim() == 0 for value in tensors)


def test_stopped_and_gone_on_with_it_ends_the_same(project, whole):
    config = write(project, {"args": {"fault": "SIGTERM", "at_step": 13}, "save_steps": 3, "keep_last": None})
    done = torchrun("-c", config, script=SCRIPT)
    run, said = project.run_dirs()[-1], done.stdout + done.stderr
    stopped_at = int(re.search(r"Saved after step (\d+)\.", said)[1])
    assert done.returncode == 1 and load(run / "last.pth")["step"] == stopped_at >= 13
    torchrun_well("-r", run, script=SCRIPT, env={"FAULT": "off"})
    assert_same(state_of(run), state_of(whole))
    assert_same(load(run / "model_best.pth")["model"], load(whole / "model_best.pth")["model"])
    assert metrics_of(run) == metrics_of(whole)


def test_killed_it_is_started_again_and_ends_the_same(project, whole):
    config = write(project, {"args": {"fault": "SIGKILL", "at_step": 14}, "save_steps": 3, "keep_last": 1})
    said = torchrun_well("-c", config, script=SCRIPT, agent=("--standalone", "--max-restarts=1"))
    assert "Going on after step 12, within epoch 2" in said or "Going on after epoch 1" in said
    run = project.run_dirs()[-1]
    assert_same(state_of(run), state_of(whole))
    named = {load(file).get("shards", {}).get("folder") for file in run.glob("*.pth")} - {None}
    assert {folder.name for folder in run.glob("shards-*")} == named and len(named) <= 2  # no others are kept


@pytest.mark.parametrize("processes", [1, 4])
def test_another_number_of_processes_goes_on_with_it(project, copy, whole, processes):
    middle = copy / "checkpoint-step12.pth"
    before = state_of(copy, middle.name)
    if processes == 1:
        said = project.resume(middle)
    else:
        said = torchrun_well("-r", middle, processes=processes)
    assert "Going on after step 12, within epoch 2" in said and f"this run has {processes}" in said
    assert before["step"] == 12 and load(copy / "last.pth")["step"] == 20
    assert ("shards" in load(copy / "last.pth")) is (processes > 1)
    assert metrics_of(copy)[0] == metrics_of(whole)[0]
    assert metrics_of(copy)[1]["loss"] == pytest.approx(metrics_of(whole)[1]["loss"], abs=0.2)  # another dropout


def test_a_run_of_replicas_goes_on_in_shards_and_back(project):
    parts = {"model": {"type": "LeNet", "args": project.config["model"]["args"] | {"dropout": 0.0}}}
    alone = project.train(**parts, trainer={"epochs": 3})
    run = project.train(**parts, trainer={"epochs": 1})
    more = ["-r", run, "--set", 'parallel={"type":"fsdp"}', "trainer.epochs=2"]
    torchrun_well(*more)
    assert "shards" in load(run / "last.pth")
    torchrun_well("-r", run, "--set", "parallel=null", "trainer.epochs=3")
    assert "shards" not in load(run / "last.pth")
    assert_close(metrics_of(run), metrics_of(alone), 1e-5)


def test_a_bit_that_flips_in_a_shard_is_noticed(project, copy):
    newest = load(copy / "last.pth")["shards"]["folder"]
    shard = copy / newest / "__1_0.distcp"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    assert f"the checksum of {newest}/__1_0.distcp does not match" in project.refused("-r", copy / "last.pth")
    said = project.resume(copy, "--set", "trainer.epochs=3")
    assert f"the checksum of {newest}/__1_0.distcp does not match" in said and "Taking model_best.pth instead" in said


def test_shards_that_are_gone_are_named(project, copy):
    newest = load(copy / "last.pth")["shards"]["folder"]
    shutil.rmtree(copy / newest)
    assert re.search(rf"{newest}/\S+ is missing", project.refused("-r", copy / "last.pth"))


def test_going_back_makes_the_best_whole_again(project, copy):
    best_before = load(copy / "model_best.pth")
    (copy / "model_best.pth").unlink()
    project.resume(
        copy / "checkpoint-epoch2.pth", "--set", "trainer.epochs=3", "trainer.early_stop=1", "trainer.min_delta=9"
    )
    best = load(copy / "model_best.pth")
    assert best["epoch"] == 2 and "shards" not in best
    assert_same(best["model"], best_before["model"])


def test_a_new_run_starts_from_shards(project, copy):
    project.train("--init-from", copy / "last.pth", trainer={"epochs": 1})
    assert metrics_of(project.run_dirs()[-1])[0]["val_loss"] < metrics_of(copy)[0]["val_loss"]


class Evil:
    def __reduce__(self):
        return (open, (str(self.marker), "w"))


def test_what_torch_wrote_of_the_shards_is_not_read(project, copy, tmp_path):
    """It is a pickle, and brings code here."""
    Evil.marker = tmp_path / "marker"
    (copy / load(copy / "last.pth")["shards"]["folder"] / ".metadata").write_bytes(pickle.dumps(Evil()))
    project.resume(copy / "last.pth", "--set", "trainer.epochs=3")
    assert not Evil.marker.exists()
    pickle.loads(pickle.dumps(Evil())).close()  # noqa: S301 - it does run, elsewhere
    assert Evil.marker.exists()


def _elsewhere(entry, key):
    entry["tensors"][key]["parts"][0][2] = "../__0_0.distcp"


def _of_another_shape(entry, key):
    entry["tensors"][key]["shape"] = [9999]


def _with_a_hole(entry, key):
    entry["tensors"][key]["parts"].pop()


def _nonsense(entry, key):
    entry["tensors"][key]["parts"] = {"a": [1]}


def _of_another_folder(entry, key):
    entry["folder"] = "../copy"


def _an_unlisted_file(entry, key):
    entry["files"].pop("__0_0.distcp")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_elsewhere, "lies elsewhere"),
        (_of_another_shape, "is not what the folder holds"),
        (_with_a_hole, "is not what the folder holds"),
        (_nonsense, "cannot be read"),
        (_of_another_folder, "it does not say where its tensors are"),
        (_an_unlisted_file, "lies elsewhere"),
    ],
)
def test_a_table_of_contents_that_lies_is_refused(project, copy, change, message):
    checkpoint = load(copy / "last.pth")
    change(checkpoint["shards"], next(iter(checkpoint["shards"]["tensors"])))
    save_checkpoint(copy, checkpoint, ["last.pth"])
    assert message in project.refused("-r", copy / "last.pth")


def test_a_part_that_unpacks_to_more_than_it_is_is_refused(project, copy):
    checkpoint = load(copy / "last.pth")
    entry = checkpoint["shards"]
    part = entry["tensors"]["/model/fc1.weight"]["parts"][0]
    file = copy / entry["folder"] / part[2]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(1 << 20))
        archive.writestr("archive/version", "3")
    content = file.read_bytes()
    part[3], part[4] = len(content), len(packed.getvalue())
    file.write_bytes(content + packed.getvalue())
    entry["files"][part[2]] = zlib.crc32(file.read_bytes())
    save_checkpoint(copy, checkpoint, ["last.pth"])
    assert "unpacks to more than it is" in project.refused("-r", copy / "last.pth")


def test_a_disk_that_is_full_for_one_process_is_told(project):
    """From step 9 on, one of them can write no more than a few bytes."""
    config = write(project, {"args": {"fault": "full_disk", "at_step": 9}, "save_steps": 4, "epochs": 1})
    done = torchrun("-c", config, script=SCRIPT)
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "Traceback" not in done.stdout
    assert "Epoch 1 could not be saved" in said and "File too large" in said and "is not saved in" in said
    run = project.run_dirs()[-1]
    assert state_of(run)["step"] == load(run / "last.pth")["step"] in (4, 8)
    named = {load(file)["shards"]["folder"] for file in run.glob("*.pth") if file.name != "model_best.pth"}
    assert {folder.name for folder in run.glob("shards-*")} == named


def test_a_checkpoint_is_there_before_the_next_one_is_made(project, tmp_path):
    """Written in the background, and no later than that."""
    config = write(project, {"args": {"fault": "hang", "at_step": 7}, "save_steps": 5})
    agent = start_torchrun("-c", config, script=SCRIPT)
    try:
        run = run_dir_with(tmp_path, "New run", agent)
        end = time.monotonic() + 60
        while not (run / "last.pth").is_file() or load(run / "last.pth")["step"] != 5:
            assert time.monotonic() < end and agent.poll() is None
            time.sleep(0.2)
    finally:
        for process in ranks_of(agent):
            os.kill(process, signal.SIGKILL)
        agent.communicate(timeout=60)


def test_too_few_samples_for_all_to_evaluate(project):
    done = torchrun("-c", write(project, dataset="FewToValidate"), script=SCRIPT)
    assert done.returncode == 1 and "the valid samples give no batch" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout and project.run_dirs() == []
