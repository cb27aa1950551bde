"""`python -m data_loader`: one batch of a config, as the model gets it."""

import re

import pytest
from conftest import ROOT, run_python
from PIL import Image

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


def test_as_the_readme_says(tmp_path):
    out = tmp_path / "look.png"
    done = run_python("-m", "data_loader", "-c", "config.json", "--out", out, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert out.is_file() and "train: 1,259 samples" in done.stdout
    assert "(64, 1, 8, 8)" in done.stdout
