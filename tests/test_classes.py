"""The splits of a data set must give each class the same number, and a hidden folder is no class."""

import pytest
from PIL import Image
from torch.utils.data import Subset
from torchvision.datasets import ImageFolder

import data_loader.__main__ as look_script
import data_loader.datasets
import test as test_script
import train as train_script
from data_loader.datasets import Digits
from utils.batches.classes import check_classes
from utils.errors import ConfigError

NAMES = ("고양이", "dog", "새")


class Folders(ImageFolder):
    """A folder for each class, below one for each split."""

    root_folder = None
    train_is_away = False

    def __init__(self, split):
        if split == "train" and self.train_is_away:
            raise RuntimeError("no such data on this machine")
        super().__init__(self.root_folder / split)

    def collate(self, samples):
        digits = Digits("valid")
        return digits.images[: len(samples)].float(), digits.targets[: len(samples)]


@pytest.fixture
def folders(tmp_path, write_into, monkeypatch):
    """The same classes in all splits."""
    for split in ("train", "valid", "test"):
        for name in NAMES:
            add(tmp_path / "pictures" / split / name)
    write_into(data_loader.datasets, Folders)
    monkeypatch.setattr(Folders, "root_folder", tmp_path / "pictures")
    return tmp_path / "pictures"


def add(folder):
    folder.mkdir(parents=True)
    for number in range(4):
        Image.new("RGB", (8, 8)).save(folder / f"{number}.png")


SECTIONS = {"dataset": "Folders", "data_loader": {"batch_size": 4}}


def refusals(project):
    """What each command says that starts with a config; all the same."""
    config = project.write_config(**SECTIONS)
    said = {project.refused("-c", config, *arguments) for arguments in ([], ["--check"])}
    said.add(project.refused("-c", config, "--out", project.folder / "x.png", script=look_script))
    (message,) = said
    return message


@pytest.mark.parametrize("name", [".ipynb_checkpoints", "__MACOSX", ".thumbnails"])
def test_a_hidden_folder_is_no_class(project, folders, name):
    add(folders / "train" / name)
    message = f"error: dataset: train has a class {name!r}, which is a hidden folder. Delete the folder "
    assert refusals(project) == f"{message}{folders}/train/{name}.\n"


def test_a_class_that_has_another_number_is_named(project, folders):
    add(folders / "valid" / "cow")
    assert refusals(project) == (
        "error: dataset: class 'cow' is number 0 in valid and no class in train. Number the classes in all "
        "splits as in train (a class for each folder: the same folders in both).\n"
    )
    add(folders / "train" / "ant"), add(folders / "train" / "cow")
    assert "error: dataset: class 'cow' is number 0 in valid and number 1 in train." in refusals(project)


def test_a_test_split_is_compared_before_it_is_scored(project, folders, monkeypatch):
    run = project.train(**SECTIONS)
    project.test("-r", run)
    add(folders / "test" / "cow")
    message = project.refused("-r", run, script=test_script)
    assert "error: dataset: class 'cow' is number 0 in test and no class in train." in message
    monkeypatch.setattr(Folders, "train_is_away", True)
    project.test("-r", run)


def test_folds_compare_the_classes_too(project, folders):
    add(folders / "valid" / "cow")
    message = project.refused_config(**SECTIONS | {"dataset": {"type": "Folders", "fold": "1/2"}})
    assert "class 'cow' is number 0 in valid and no class in train" in message


class Named:
    def __init__(self, **attributes):
        self.__dict__ |= attributes


class Part(Subset):
    def __init__(self, dataset):
        super().__init__(dataset, [0])


@pytest.mark.parametrize(
    ("train", "valid", "differs"),
    [
        ({"classes": ["a", "b"]}, {"classes": ["a", "b"]}, None),
        ({"classes": ["a", "b", "c"]}, {"classes": ["a", "b"]}, None),  # no sample of c: the numbers agree
        ({"classes": ["a", "b"]}, {"classes": ["a", "b", "c"]}, "'c' is number 2 in valid and no class"),
        ({"classes": ["a", "b"]}, {"classes": ["b", "a"]}, "'b' is number 0 in valid and number 1"),
        ({"classes": ["a", "b", "c"]}, {"classes": ["b", "c"]}, "'b' is number 0 in valid and number 1"),
        ({"class_to_idx": {"a": 0, "b": 1}}, {"class_to_idx": {"b": 1}}, None),
        ({"class_to_idx": {"a": 0, "b": 1}}, {"class_to_idx": {"b": 0}}, "'b' is number 0 in valid and number 1"),
        ({"class_to_idx": {"a": 1}, "classes": ["a"]}, {"class_to_idx": {"a": 1}, "classes": ["b"]}, None),
        ({"classes": (1, 2)}, {"classes": (2, 1)}, "2 is number 0 in valid and number 1"),
        ({"classes": ["a", "a", "b"]}, {"classes": ["b", "a", "b"]}, None),  # one name for each sample
        ({"classes": 10}, {"classes": 9}, None),
        ({"classes": [".net", "c"]}, {"classes": [".net"]}, None),  # texts, no folders
        ({}, {"classes": ["a"]}, None),
        ({"classes": [".DS_Store", "a"]}, {}, "train has a class '.DS_Store', which is a hidden folder. Delete that"),
    ],
)
def test_what_differs(train, valid, differs):
    for wrap in (lambda dataset: dataset, Part):
        datasets = {"train": wrap(Named(**train)), "valid": wrap(Named(**valid))}
        if differs is None:
            check_classes(datasets, build=None)
        else:
            with pytest.raises(ConfigError) as caught:
                check_classes(datasets, build=None)
            assert differs in str(caught.value)


def test_a_run_of_the_same_classes_trains(project, folders):
    assert project.command(train_script, "-c", project.write_config(**SECTIONS), "--check")[0] in (0, 2)
    project.train(**SECTIONS)
