"""`python -m data_loader`: one batch of a config, as the model gets it."""

import re

import numpy as np
import pytest
import torch
from conftest import ROOT, run_python
from PIL import Image
from torch.nn.utils.rnn import pack_sequence

import data_loader.__main__ as look_script
import data_loader.datasets
from data_loader.datasets import Digits


@pytest.fixture
def look(project):
    def run(*arguments, expected=0, **sections):
        path = project.folder / "batch.png"
        code, out, err = project.command(look_script, "-c", project.write_config(**sections), "--out", path, *arguments)
        assert code == expected, out + err
        return (out if expected == 0 else err), path

    return run


def test_a_batch_of_images_is_told_and_drawn(look):
    said, path = look()
    counts = Digits("valid").targets.bincount().tolist()
    assert "valid: 179 samples in 3 batches; of class " + ", ".join(f"{i}: {n}" for i, n in enumerate(counts)) in said
    assert re.search(r"^train: 1,259 samples in 20 batches; of class 0: \d+, ", said, re.MULTILINE)
    assert re.search(r"  0 +\(64, 1, 8, 8\) +float32 +-0.8112 to 1.848, mean ", said)
    assert re.search(r"  1 +\(64,\) +int64 +0 to 9\n", said)
    picture = Image.open(path)
    assert f"drawn: {path}, the first 32" in said and picture.size == (8 * 9 + 1, 4 * 9 + 1)
    assert picture.getextrema() == ((0, 255),) * 3


def test_the_batch_is_the_first_that_the_run_trains_on(look, project):
    said, _ = look("--set", "data_loader.batch_size=3")
    batch = next(iter(project.trainer(data_loader={"batch_size": 3}).run.batches["train"].epoch()))
    values = batch[0].double()
    assert f"{values.min():.4g} to {values.max():.4g}, mean {values.mean():.3g}, std {values.std():.3g}" in said


class Words(Digits):
    """Classes spelt out, of unequal length, without `targets`."""

    def __init__(self, split):
        super().__init__(split)
        self.hidden = self.targets
        del self.targets

    def __getitems__(self, indices):
        return {"codes": self.images[indices].flatten(1).float()}, self.hidden[indices]

    def decode(self, inputs):
        return [f"text of {int(codes.sum())}" for codes in inputs["codes"]]


def test_texts_are_printed_and_classes_counted_in_what_is_read(look, write_into):
    write_into(data_loader.datasets, Words)
    said, path = look("--split", "valid", dataset="Words")
    codes = Words("valid").__getitems__([0])[0]["codes"]
    assert f"  text of {int(codes.sum())}\n" in said and not path.exists()
    assert re.search(r"  0\.codes +\(64, 64\) +float32 ", said)
    assert "valid: 179 samples in 3 batches; of class 0: " in said


def test_a_split_without_samples_is_said(look):
    class Few(Digits):
        def __len__(self):
            return 0 if self.split == "test" else super().__len__()

    Few.__module__ = "data_loader.datasets"
    data_loader.datasets.Few = Few
    try:
        assert (
            "--split test: the data set has no samples there." in look("--split", "test", dataset="Few", expected=2)[0]
        )
    finally:
        del data_loader.datasets.Few


class Odd(Digits):
    """Targets and batches of any kind."""

    def __init__(self, split):
        super().__init__(split)
        self.targets = KINDS[self.kind][0](self.targets)

    def __getitem__(self, index):
        return self.images[index].float(), index

    def collate(self, samples):
        images, numbers = zip(*samples, strict=True)
        return KINDS[self.kind][1](torch.stack(images), torch.tensor(numbers))


def same(value):
    return value


KINDS = {  # what becomes of the targets; the batch; a line about its first or only part, and one about the classes
    "text targets": (
        lambda targets: [f"class {target}" for target in targets.tolist()],
        lambda images, numbers: (images, numbers),
        r"  0 +\(64, 1, 8, 8\) +float32 +0 to 16, mean ",
        "of class class 0: 124, class 1: 128, ",
    ),
    "dict targets": (
        lambda targets: [{"label": target} for target in targets.tolist()],
        lambda images, numbers: (images, {"label": numbers}),
        r"  1\.label +\(64,\) +int64 +\d+ to \d+\n",
        "samples in 20 batches\n",
    ),
    "ragged targets": (
        lambda targets: [[1] * target for target in targets.tolist()],
        lambda images, numbers: (images, [numbers[:count] for count in range(64)]),
        r"  1\.0 +\(0,\) +int64 +empty\n(.*\n){7}  1\.\.\. +'64 in all'",
        "samples in 20 batches\n",
    ),
    "numbers as tensors": (
        list,
        lambda images, numbers: (images, numbers),
        r"  0 +\(64, 1, 8, 8\) ",
        "class 0: 124, 1: ",
    ),
    "numpy": (
        lambda targets: targets.numpy(),
        lambda images, numbers: (images.numpy(), numbers.numpy()),
        r"  0 +\(64, 1, 8, 8\) +float32 +0 to 16, mean .*\n(.*\n)+drawn: ",
        "class 0: 124, 1: ",
    ),
    "numpy texts": (same, lambda images, numbers: np.array(["a", "b"]), r"  batch +\(2,\) +<U1\n", "class 0: 124, 1: "),
    "texts": (
        lambda targets: None,
        lambda images, numbers: ["some text", "y" * 100],
        r"  0 +'some text'\n  1 +'y{77}\.\.\.'\n",
        "samples in 20 batches\n",
    ),
    "nothing": (lambda targets: None, lambda images, numbers: (), "the first batch of train:\n$", "in 20 batches\n"),
    "an empty batch": (
        same,
        lambda images, numbers: (images[:0], None),
        r"float32 +empty\n  1 +NoneType None",
        "class 0",
    ),
    "complex": (
        same,
        lambda images, numbers: (images + 0j, numbers),
        r"complex64 +0 to 16, mean .* \(absolute values\)|complex64 +0 to 16 \(absolute values\)",
        "class 0",
    ),
    "bool": (
        lambda targets: targets > 4,
        lambda images, numbers: images > 8,
        r"  batch .* bool +0 to 1\n",
        "False: 631",
    ),
    "sparse": (same, lambda images, numbers: (images.to_sparse(), numbers), r"\(64, 1, 8, 8\) +float32\n", "class 0"),
    "nested": (
        same,
        lambda images, numbers: (torch.nested.nested_tensor([images[0, 0], images[1, 0]]), numbers),
        r"  0 +nested, of 2 tensors, float32\n",
        "class 0",
    ),
    "packed": (
        same,
        lambda images, numbers: (pack_sequence([torch.ones(3, 2), torch.ones(2, 2)]), numbers),
        r"  0\.data +\(5, 2\) +float32 +1 to 1, mean 1, std 0\n",
        "class 0",
    ),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
@pytest.mark.parametrize("kind", KINDS)
def test_any_batch_can_be_looked_at(look, write_into, monkeypatch, kind):
    write_into(data_loader.datasets, Odd)
    monkeypatch.setattr(Odd, "kind", kind, raising=False)
    monkeypatch.setattr(Odd, "__getitems__", None)
    said, _ = look(dataset="Odd")
    *_, batch, classes = KINDS[kind]
    assert re.search(batch, said), said
    assert classes in said, said


class Relabelled(Digits):
    """Other classes than those in `targets`."""

    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        return image, target % 2


def test_classes_are_those_that_a_model_sees(look, write_into):
    write_into(data_loader.datasets, Relabelled)
    targets = Digits("valid").targets % 2
    said, _ = look(dataset="Relabelled")
    assert f"valid: 179 samples in 3 batches; of class 0: {(targets == 0).sum()}, 1: {targets.sum()}\n" in said


def test_a_place_that_cannot_be_written_is_named(look, project):
    folder = project.folder / "pictures"
    folder.mkdir()
    (said, _), ending = look("--out", folder, expected=2), look("--out", folder / "batch.doc", expected=2)[0]
    assert said == f"error: --out {folder}: is a folder. Name a file: --out {folder}/batch.png.\n"
    assert f"error: --out {folder}/batch.doc: cannot be written: unknown file extension: .doc. Name another" in ending
    (project.folder / "file").touch()
    said = look("--out", project.folder / "file" / "x.png", expected=2)[0]
    assert f"--out {project.folder}/file/x.png: there is no such folder." in said
    (said, _) = look("--out", "/proc/batch.png", expected=2)
    assert "error: --out /proc/batch.png: cannot be written: [Errno " in said and "Name another file: --out" in said


def test_as_the_readme_says(tmp_path):
    out = tmp_path / "look.png"
    done = run_python("-m", "data_loader", "-c", "config.json", "--out", out, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert out.is_file() and "train: 1,259 samples" in done.stdout
    assert "(64, 1, 8, 8)" in done.stdout
