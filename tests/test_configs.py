"""Each of configs/ trains, scores and resumes on a few samples in the files that torchvision reads."""

import json
import pickle
import struct

import numpy as np
import pytest
import torchvision
from conftest import ROOT, metrics_of

CONFIGS = sorted((ROOT / "configs").glob("*.json"))
TRAIN, TEST = 600, 40


def write_idx(folder):
    """The four files of MNIST's format."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for prefix, count in (("train", TRAIN), ("t10k", TEST)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        head = struct.pack(">iiii", 2051, count, 28, 28)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">ii", 2049, count) + labels.tobytes())


def write_cifar(folder, monkeypatch):
    """The files of CIFAR-10's format. Their checksums are known to torchvision, so that it is told not to look."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = {"data_batch_1": TRAIN, "test_batch": TEST}
    for name, count in names.items():
        content = {
            "data": rng.integers(0, 256, (count, 3072), dtype=np.uint8),
            "labels": [i % 10 for i in range(count)],
        }
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("0123456789")}))
    source = torchvision.datasets.CIFAR10
    monkeypatch.setattr(source, "train_list", [["data_batch_1", None]])
    monkeypatch.setattr(source, "test_list", [["test_batch", None]])
    monkeypatch.setattr(source, "meta", {"filename": "batches.meta", "key": "label_names", "md5": None})


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_trains_resumes_and_scores(project, monkeypatch, path):
    folder = project.folder / "data"
    write_idx(folder / "MNIST" / "raw")
    write_idx(folder / "FashionMNIST" / "raw")
    write_cifar(folder / "cifar-10-batches-py", monkeypatch)
    project.config = json.loads(path.read_text())
    project.config["trainer"]["save_dir"] = str(project.folder / "saved")
    changes = [
        f"dataset.args.data_dir={folder}",
        "dataset.args.valid_size=100",
        "trainer.epochs=1",
        "trainer.epoch_steps=2",
    ]
    run = project.train("--bs", "8", "--set", *changes)
    project.resume(run, "--set", "trainer.epochs=2")
    assert [line["step"] for line in metrics_of(run)] == [2, 4]
    values, _ = project.test("-r", run)
    assert 0 <= values["accuracy"] <= 1


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("mnist", "MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte"),
        ("fashion_mnist", "the package dataset-fashion-mnist has them"),
        ("cifar10_resnet18", "the unpacked folder cifar-10-batches-py"),
    ],
)
def test_without_files_one_message_says_what_to_put_where(project, name, what):
    folder = project.folder / "data"
    changes = [f"dataset.args.data_dir={folder}", "dataset.args.download=false"]
    message = project.refused("-c", ROOT / "configs" / f"{name}.json", "--set", *changes)
    assert f"dataset.args.data_dir: {folder} lacks files of" in message and what in message
    assert message.count("\n") == 1


def test_without_a_network_a_failed_download_is_the_same_message(project, monkeypatch):
    """Mirrors on a closed port of this machine: a real connection, really refused."""
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    folder = project.folder / "data"
    message = project.refused("-c", ROOT / "configs" / "fashion_mnist.json", "--set", f"dataset.args.data_dir={folder}")
    assert "lacks files of FashionMNIST, and they could not be downloaded. Put there: " in message


def test_train_valid_and_test_do_not_overlap_and_only_training_is_augmented(project):
    from data_loader.datasets import FashionMNIST
    from data_loader.transforms import RandomFlip

    write_idx(project.folder / "FashionMNIST" / "raw")
    splits = {
        split: FashionMNIST(split, [RandomFlip()], [], data_dir=str(project.folder), valid_size=100)
        for split in ("train", "valid", "test")
    }
    assert {split: len(data) for split, data in splits.items()} == {"train": 500, "valid": 100, "test": TEST}
    assert splits["valid"].targets.bincount().tolist() == [10] * 10
    rows = [tuple(row) for data in splits.values() for row in data.images.flatten(1).tolist()]
    assert len(set(rows)) == len(rows)
    assert splits["train"].transforms and not splits["valid"].transforms and not splits["test"].transforms
