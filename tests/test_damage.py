"""Not a bit of a checkpoint changes unnoticed, and a run goes on from the newest good one."""

import io
import random
import zipfile

import pytest
import torch
from conftest import ROOT, assert_same, load, metrics_of, run_python

import test as test_script
from model.model import LeNet
from utils.checkpoints.checkpoint import CheckpointError, load_checkpoint, save_checkpoint


def replace(path, content):
    """Write a file anew: it shares its content with other names."""
    path.unlink()
    path.write_bytes(content)


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    replace(path, bytes(content))


@pytest.fixture
def saved(tmp_path):
    state = {"format": 2, "config": {}, "model": LeNet(10).state_dict()}
    save_checkpoint(tmp_path, state, ["last.pth"])
    return tmp_path / "last.pth"


@pytest.mark.faults
def test_every_flipped_bit_is_noticed(saved, times):
    good = saved.read_bytes()
    draw = random.Random(0)
    bits = [draw.randrange(8 * len(good)) for _ in range(times(100, 300))]
    for bit in [*bits, *range(8 * len(good) - 8 * 200, 8 * len(good), 1 if len(bits) == 300 else 16)]:
        flip(saved, bit)
        with pytest.raises(CheckpointError, match="last.pth: not a readable checkpoint"):
            load_checkpoint(saved)
        saved.write_bytes(good)
    load_checkpoint(saved)


@pytest.mark.faults
def test_every_truncation_is_noticed(saved, times):
    good = saved.read_bytes()
    draw = random.Random(0)
    lengths = [draw.randrange(len(good)) for _ in range(times(20, 50))]
    for length in [0, *lengths, *range(len(good) - 40, len(good))]:
        saved.write_bytes(good[:length])
        with pytest.raises(CheckpointError, match="last.pth: not a readable checkpoint"):
            load_checkpoint(saved)


@pytest.mark.parametrize("more", [b"\0", b"\0" * 4096, b"more"])
def test_an_appended_tail_is_noticed(saved, more):
    saved.write_bytes(saved.read_bytes() + more)
    with pytest.raises(CheckpointError, match="its checksum is missing"):
        load_checkpoint(saved)


def test_torch_and_zip_read_a_sealed_file_as_any_other(saved):
    assert_same(torch.load(saved, weights_only=True), torch.load(saved, weights_only=True, mmap=True))
    with zipfile.ZipFile(saved) as archive:
        assert archive.testzip() is None and archive.comment.startswith(b"crc32 ")


def test_a_file_of_another_program_is_checked_by_the_sums_of_its_zip(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(LeNet(10).state_dict(), path)
    load_checkpoint(path)
    content = bytearray(path.read_bytes())
    weight = LeNet(10).state_dict()
    torch.save(weight, path)
    content = bytearray(path.read_bytes())
    content[content.index(weight["fc1.weight"].numpy().tobytes()) + 5] ^= 1
    path.write_bytes(content)
    assert torch.load(path, weights_only=True).keys() == weight.keys(), "torch does not look"
    with pytest.raises(CheckpointError, match="a checksum in it does not match"):
        load_checkpoint(path)


def test_weights_from_before_the_zip_format_are_read(project):
    path = project.folder / "old.pth"
    model = LeNet(10, channels=(4, 8), hidden=16)
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False)
    project.train("--init-from", path)


LIMITED = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from utils.checkpoints.checkpoint import load_checkpoint
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28), -1))
load_checkpoint(Path(sys.argv[2]))
"""


def test_a_file_that_unpacks_to_more_than_it_is_is_refused_before_it_takes_memory(saved):
    """A zip bomb of 1 GB, which torch would unpack, in a process that may take 256 MiB more."""
    packed = io.BytesIO()
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            is_weight = name.endswith("/data/0")
            target.writestr(name, bytes(1_000_000_000) if is_weight else source.read(name))
    saved.write_bytes(packed.getvalue())
    assert len(packed.getvalue()) < 2_000_000
    done = run_python("-c", LIMITED, ROOT, saved)
    assert "CheckpointError" in done.stderr and "(it unpacks to more than it is)" in done.stderr


def damage_last(run):
    """Of the newest epoch: `last.pth` and all its other names, which share one content."""
    inode = (run / "last.pth").stat().st_ino
    names = [path.name for path in run.glob("*.pth") if path.stat().st_ino == inode]
    with open(run / "last.pth", "r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))
    return names


@pytest.mark.parametrize("auto", [False, True])
def test_a_run_goes_on_from_the_newest_good_one_and_ends_the_same(project, auto):
    trainer = {"epochs": 4, "keep_last": None}
    whole = project.train(trainer=trainer)
    run = project.train(trainer=trainer | {"epochs": 3})
    assert set(damage_last(run)) >= {"last.pth", "checkpoint-epoch3.pth"}
    if auto:
        project.train("-r", "auto", trainer=trainer)
    else:
        out = project.resume(run, "--set", "trainer.epochs=4")
        assert f"{run}/last.pth: not a readable checkpoint (its checksum does not match)" in out
        assert "Taking checkpoint-epoch2.pth instead, of epoch 2, step 40." in out
        assert "Going on after epoch 2" in out
    for name in ("last.pth", "model_best.pth", "checkpoint-epoch3.pth"):
        assert_same(load(whole / name), load(run / name))
    assert metrics_of(whole) == metrics_of(run)


def test_of_steps_and_epochs_the_newest_good_one_is_taken(project):
    run = project.train(trainer={"epochs": 1, "save_steps": 6, "keep_last": 2})
    assert sorted(path.name for path in run.glob("checkpoint-*")) == [
        "checkpoint-epoch1.pth", "checkpoint-step12.pth", "checkpoint-step18.pth",
    ]  # fmt: skip
    damage_last(run)
    assert "Taking checkpoint-step18.pth instead, of epoch 0, step 18." in project.resume(run)


def test_a_file_given_by_name_is_never_replaced_by_another(project):
    run = project.train()
    damage_last(run)
    message = project.refused("-r", run / "last.pth")
    assert message.startswith(f"error: {run}/last.pth: not a readable checkpoint (its checksum does not match).")
    message = project.refused("-r", run / "last.pth", script=test_script)
    assert "its checksum does not match" in message


@pytest.mark.parametrize("auto", [False, True])
def test_where_all_are_bad_nothing_starts(project, auto):
    run = project.train()
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    for path in run.glob("*.pth"):
        replace(path, b"bad")
    arguments = ["-c", project.write_config(), "-r", "auto"] if auto else ["-r", run]
    message = project.refused(*arguments)
    assert f"{run}: none of its checkpoints can be used:" in message
    assert all(f"{run}/{name}: not a readable checkpoint" in message for name in before if name.endswith(".pth"))
    assert {path.name for path in run.iterdir()} == set(before)


def test_scoring_takes_the_newest_good_one_and_says_so(project):
    run = project.train(trainer={"epochs": 3})
    expected = project.test("-r", run / "checkpoint-epoch2.pth")[0]
    assert "model_best.pth" in damage_last(run)
    values, out = project.test("-r", run)
    assert values == expected and "Taking checkpoint-epoch2.pth instead" in out


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_damaged_best_is_made_again_or_forgotten(project, is_kept):
    """Training the first epoch alone, then with a rate of 0: epoch 1 stays the best."""
    schedule = {"type": "MultiStepLR", "args": {"milestones": [1], "gamma": 0.0}}
    run = project.train(lr_scheduler=schedule, trainer={"epochs": 2, "keep_last": None})
    assert load(run / "model_best.pth")["epoch"] == 1
    content = bytearray((run / "model_best.pth").read_bytes())
    content[1000] ^= 1
    if is_kept:
        replace(run / "model_best.pth", bytes(content))
    else:
        (run / "model_best.pth").write_bytes(content)  # checkpoint-epoch1.pth is the same file
    out = project.resume(run, "--set", "trainer.epochs=3")
    assert ("Nothing good is left of the best epoch" in out) == (not is_kept)
    best = load(run / "model_best.pth")["epoch"]
    assert best == load(run / "last.pth")["monitor"]["best_values"]["epoch"] == (1 if is_kept else 3)


@pytest.mark.parametrize("name", ["rng", "monitor", "batches", "step"])
def test_a_checkpoint_that_lacks_a_key_is_refused(project, name):
    run = project.train()
    state = load(run / "last.pth")
    del state[name]
    save_checkpoint(run, state, ["lacking.pth"])
    assert f"lacking.pth: lacks {name}: a resume would not be exact." in project.refused("-r", run / "lacking.pth")


def test_a_checkpoint_of_the_first_format_goes_on(project):
    whole = project.train(trainer={"epochs": 3})
    run = project.train(trainer={"epochs": 2})
    state = load(run / "last.pth") | {"format": 1}
    del state["epoch_so_far"], state["config"]["data_loader"]["drop_last"]  # as if it were a setting of today
    (run / "last.pth").unlink()
    torch.save(state, run / "last.pth")
    project.resume(run, "--set", "trainer.epochs=3")
    assert metrics_of(run) == metrics_of(whole)
