"""examples/streaming: shards that several processes and workers read, each sample once; and rare classes."""

import json
import re
from collections import Counter
from itertools import chain
from random import Random
from threading import Barrier, Thread

import pytest
import torch
from conftest import ROOT, load, metrics_of
from ranks import torchrun
from streams_on_ranks import WORKERS, one_pass

import train as train_script
import trainer.trainer
from data_loader.datasets import Digits
from examples.streaming.data import DigitStream, shuffled
from examples.streaming.imbalanced import BalancedSampler, ThinnedDigits
from examples.streaming.make_shards import INDEX, make_shards
from examples.streaming.metric import MacroRecall

CONFIG = ROOT / "examples" / "streaming" / "config.json"
IMBALANCED = CONFIG.with_name("imbalanced.json")
STREAM = "examples.streaming.data.DigitStream"


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "shards"
    make_shards(folder)
    return folder


def records(samples):
    return [(int(target), bytes(image.flatten().tolist())) for image, target in samples]


def all_records(split):
    digits = Digits(split)
    return records(zip(digits.images, digits.targets, strict=True))


# ---- a run ----


def test_it_trains_scores_and_makes_its_shards(project):
    folder = project.folder / "data" / "shards"
    options = [f"dataset.args.data_dir={folder}", f"trainer.save_dir={project.folder / 'saved'}", "trainer.epochs=4"]
    run = project.train_with(CONFIG, "--set", *options, "n_gpu=0", "trainer.tensorboard=false")
    assert [path.name for path in folder.parent.iterdir()] == ["shards"]
    assert len(metrics_of(run)) == 4
    assert project.test("-r", run)[0]["accuracy"] > 0.85


@pytest.mark.parametrize(("workers", "step"), [(0, 3), (0, 7), (2, 8)])
def test_a_run_that_is_stopped_ends_as_one_that_is_not(run_with_stops, shards, workers, step):
    dataset = {"type": STREAM, "args": {"data_dir": str(shards), "buffer_size": 100}}
    out = run_with_stops(step, dataset=dataset, data_loader={"num_workers": workers})
    assert f"Reading {step % (6 if workers else 5)} batches again" in out


# ---- shares ----


@pytest.mark.parametrize("shares", [1, 2, 3, 6, 13, 14, 40])
def test_every_sample_is_in_one_share(shards, shares):
    stream = DigitStream("train", str(shards))
    stream.set_epoch(3)
    read = [records(stream.shard(shares, index)) for index in range(shares)]
    assert Counter(chain(*read)) == Counter(all_records("train"))
    assert max(map(len, read)) - min(map(len, read)) <= 1


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than this machine may have cores
@pytest.mark.parametrize("workers", WORKERS)
def test_workers_read_every_sample_once(shards, workers):
    read = one_pass(str(shards), workers)
    assert len(read) == 1259 and Counter(read) == Counter(one_pass(str(shards), 0))
    assert one_pass(str(shards), workers) == read


def test_two_processes_with_workers_read_every_sample_once_and_make_the_shards_once(project):
    folder = project.folder / "data" / "shards"
    done = torchrun(folder, script="tests/streams_on_ranks.py")
    assert done.returncode == 0, done.stdout + done.stderr
    read = json.loads(done.stdout.splitlines()[-1])
    expected = Counter(one_pass(str(folder), 0))
    for workers in WORKERS:
        first, second = read[str(workers)]
        assert Counter(first + second) == expected and abs(len(first) - len(second)) <= max(1, workers)
    assert [path.name for path in folder.parent.iterdir()] == ["shards"]


# ---- order ----


def test_the_order_is_a_function_of_seed_epoch_and_share(shards):
    def order(seed=0, epoch=0, split="train", **share):
        stream = DigitStream(split, str(shards), seed=seed)
        stream.set_epoch(epoch)
        torch.manual_seed(len(share))  # whatever the global generators say
        return records(stream.shard(**share) if share else stream)

    assert order() == order()
    assert order() != order(epoch=1) != order(seed=1) != order()
    half = {"num_shards": 2, "index": 1}
    assert order(**half) == order(**half) != order(epoch=1, **half)
    assert order(split="valid") == order(split="valid", epoch=1) == all_records("valid")


@pytest.mark.parametrize("size", [1, 2, 10, 99, 100, 1000])
def test_a_buffer_gives_each_sample_once(size):
    out = list(shuffled(range(100), size, Random(0)))
    assert sorted(out) == list(range(100))
    assert (out == list(range(100))) == (size == 1)
    assert all(place > sample - size for place, sample in enumerate(out))  # none before it is read


# ---- files that are not as they should be ----


def refused(project, folder, *arguments):
    return project.refused_config(*arguments, dataset={"type": STREAM, "args": {"data_dir": str(folder)}})


@pytest.fixture
def broken(shards, tmp_path):
    """Shards of one's own, to be broken."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for path in shards.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_a_missing_and_a_short_shard_are_named_before_the_run(project, broken):
    missing, short = broken / "train-0003.bin", broken / "train-0005.bin"
    missing.unlink()
    short.write_bytes(short.read_bytes()[:-1])
    assert refused(project, broken).splitlines() == [
        f"error: dataset.args.data_dir: {file_and_mistake}. Delete {broken}: the next start writes it again."
        for file_and_mistake in (f"{missing} is missing", f"{short} has 6,499 bytes, not 6,500")
    ]


@pytest.mark.parametrize(
    ("content", "found"),
    [(None, "missing"), ("{", "no index of shards"), ("[]", "no index of shards"), ('{"train": [{}]}', "no index")],
)
def test_an_index_that_is_none_is_named(project, broken, content, found):
    index = broken / INDEX
    index.write_text(content) if content else index.unlink()
    message = refused(project, broken)
    assert message.count("\n") == 1 and f"dataset.args.data_dir: {index} is {found}" in message


class Damaging(trainer.trainer.Trainer):
    """Changes a bit in every shard, in its second step."""

    folder = None

    def train_step(self, batch):
        if hasattr(self, "_checkpoints") and self.step == 1:  # not in the trial step before the run
            flip_a_bit(self.folder)
        return super().train_step(batch)


def flip_a_bit(folder):
    for path in folder.glob("train-*.bin"):
        content = path.read_bytes()
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])


def test_a_shard_that_is_damaged_during_the_run_is_named_and_the_run_goes_on_when_it_is_mended(
    project, broken, write_into, monkeypatch
):
    write_into(trainer.trainer, Damaging)
    monkeypatch.setattr(Damaging, "folder", broken)
    dataset = {"type": STREAM, "args": {"data_dir": str(broken), "buffer_size": 1}}
    code, _, err = project.command(
        train_script, "-c", project.write_config(dataset=dataset, trainer={"type": "Damaging"})
    )
    assert code == 1 and "Traceback" not in err
    assert re.search(
        rf"the train samples, pass 1, batch \d+: .*{broken}/train-\d+\.bin is damaged: its checksum does not match. "
        f"Delete {broken}: the next start writes it again.",
        err,
    )
    (run,) = project.run_dirs()
    assert 0 < load(run / "last.pth")["step"] < 20
    flip_a_bit(broken)
    project.resume(run)
    assert [line["step"] for line in metrics_of(run)] == [20, 40]


def test_several_may_write_the_same_shards_at_once(tmp_path):
    folder, barrier, failures = tmp_path / "data" / "shards", Barrier(4), []

    def write():
        barrier.wait()
        try:
            make_shards(folder)
        except BaseException as error:
            failures.append(error)

    threads = [Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and [path.name for path in folder.parent.iterdir()] == ["shards"]
    assert records(DigitStream("test", str(folder))) == all_records("test")


# ---- rare classes ----


def test_classes_are_thinned_geometrically_in_training_alone():
    before, after = Digits("train").targets.bincount(), ThinnedDigits("train", last_share=0.02).targets.bincount()
    assert torch.allclose(after / before, 0.02 ** (torch.arange(10) / 9), atol=0.005)
    for split in ("valid", "test"):
        assert torch.equal(ThinnedDigits(split).images, Digits(split).images)


@pytest.mark.parametrize(("power", "expected"), [(1.0, 0.1), (0.0, None)])
def test_the_sampler_evens_classes_out_as_far_as_it_is_told(power, expected):
    digits = ThinnedDigits("train")
    sampler = BalancedSampler(digits, torch.Generator().manual_seed(0), power)
    drawn = torch.cat([digits.targets[list(sampler)] for _ in range(50)])
    shares, original = drawn.bincount() / len(drawn), digits.targets.bincount() / len(digits)
    assert torch.allclose(shares, torch.full((10,), expected) if expected else original, atol=0.01)


def test_the_sampler_draws_from_the_generator_that_it_is_given():
    first, again, other = (
        list(BalancedSampler(ThinnedDigits("train"), torch.Generator().manual_seed(seed))) for seed in (0, 0, 1)
    )
    assert first == again != other and len(first) == len(ThinnedDigits("train"))


def test_macro_recall_is_the_mean_of_the_recalls():
    target = torch.tensor([0, 0, 0, 1, 1, 2])
    output = torch.eye(3)[torch.tensor([0, 0, 1, 1, 0, 2])]
    for classes, expected in ((None, (2 / 3 + 1 / 2 + 1) / 3), ([1, 2], (1 / 2 + 1) / 2)):
        metric = MacroRecall(3, classes)
        metric.update(output[:4], target[:4])
        other = MacroRecall(3, classes)
        other.update(output[4:], target[4:])
        metric.merge_state([other])
        assert metric.compute().item() == pytest.approx(expected)


def test_the_sampler_finds_what_is_rare(project):
    options = [f"trainer.save_dir={project.folder / 'saved'}", "n_gpu=0", "trainer.tensorboard=false"]
    run = project.train_with(IMBALANCED, "--set", *options, "trainer.epochs=12")
    assert project.test("-r", run)[0]["macro_recall"] > 0.75


def test_a_stop_changes_nothing_with_the_sampler(run_with_stops):
    config = json.loads(IMBALANCED.read_text())
    sampler = config["data_loader"]["sampler"]
    run_with_stops(2, 5, batch_size=100, dataset=config["dataset"], data_loader={"sampler": sampler})
