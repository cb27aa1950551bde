"""Confusion matrices of many classes: the picture and the table stay small, quick and readable."""

import pytest
import torch
from conftest import run_python

import data_loader.datasets
from data_loader.datasets import Digits
from logger.metrics import Metrics
from logger.pictures import matrix_picture
from logger.tables import matrix_table
from model.metric import ConfusionMatrix
from utils.checkpoints.checkpoint import packed, unpacked

COST = """
import resource, sys, time
import torch
from logger.pictures import matrix_picture
from logger.tables import matrix_table

classes = int(sys.argv[1])
matrix = torch.ones(classes, classes, dtype=torch.uint8)
matrix_picture(matrix[:64, :64])
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
picture = matrix_picture(matrix)
lines = matrix_table(matrix).splitlines()
print(time.process_time() - start, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
assert max(picture.shape) <= 1000 and len(lines) <= 34, (picture.shape, len(lines))
"""


@pytest.mark.parametrize("classes", [100, 1000, 1001, 10_000])
def test_what_many_classes_cost(classes):
    done = run_python("-c", COST, classes)
    assert done.returncode == 0, done.stderr
    seconds, megabytes = map(float, done.stdout.split())
    assert seconds < 5 and megabytes < 100, done.stdout  # mostly 1 second; a cell at a time took a minute


@pytest.mark.parametrize(
    ("classes", "side"), [(2, 56), (32, 896), (40, 1000), (300, 900), (1000, 1000), (1001, 501), (2500, 834)]
)
def test_a_picture_has_the_diagonal_and_what_is_off_it(classes, side):
    matrix = torch.diag(torch.full((classes,), 50))
    matrix[0, classes - 1] = 50
    picture = matrix_picture(matrix).float().mean(0)
    assert picture.shape == (side, side)
    assert picture[0 + side // classes // 8, -1] < 240 and picture[-1, 0] > 200 > picture[-2, -2]


def test_few_classes_have_numbers():
    counts = torch.full((32, 32), 7)
    assert len(matrix_picture(counts).float().mean(0).unique()) > 10 > len(matrix_picture(torch.ones(40, 40)).unique())


def test_a_matrix_that_is_not_square_is_drawn_and_printed():
    assert matrix_picture(torch.ones(3, 2000)).shape == (3, 2, 1000)
    assert len(matrix_table(torch.ones(3, 2000)).splitlines()) == 32


def test_a_table_of_many_classes_lists_what_is_confused_most():
    matrix = torch.diag(torch.full((31,), 900))
    matrix[3, 30], matrix[30, 3], matrix[5, 4] = 7, 12, 7
    assert matrix_table(matrix).splitlines() == [
        "the 3 most frequent confusions",
        "target  output  count",
        "    30       3  12",
        "     3      30  7",
        "     5       4  7",
    ]


def test_no_more_than_the_most_frequent_are_listed():
    matrix = torch.arange(40 * 40).view(40, 40)
    lines = matrix_table(matrix).splitlines()
    assert len(lines) == 32 and lines[2:4] == ["    39      38  1598", "    39      37  1597"]


def test_up_to_30_classes_are_printed_whole():
    assert len(matrix_table(torch.eye(30, dtype=torch.int64)).splitlines()) == 32
    assert matrix_table(torch.tensor([[5, 0], [1, 4]])).splitlines() == [
        "        output",
        "target  0 1",
        "     0  5 .",
        "     1  1 4",
    ]


class Many(Digits):
    """Digits as some of 1,000 classes."""

    def __init__(self, split):
        super().__init__(split)
        self.targets = self.targets * 111


def test_a_test_of_many_classes(project, write_into):
    write_into(data_loader.datasets, Many)
    args = project.config["model"]["args"] | {"num_classes": 1000}
    sections = {"dataset": "Many", "model": {"type": "LeNet", "args": args}}
    metric = {"type": "ConfusionMatrix", "args": {"num_classes": 1000}}
    run = project.train(**sections, metrics=[metric], trainer={"epochs": 1, "tensorboard": True})
    _, out = project.test("-r", run)
    assert " most frequent confusions\ntarget  output  count\n" in out and len(out.splitlines()) < 40


# ---- more than 1,000 classes: a sparse matrix ----

MANY = 1500


def batches(count, classes=MANY):
    """Outputs and targets of few classes, so that pairs are repeated; the first target of each is not labelled."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        best, targets = torch.randint(0, 20, (2, 8), generator=generator) * 37
        targets[0] = -100
        yield torch.nn.functional.one_hot(best, classes).float(), targets


def dense(**options):
    """The same metric without sparse counts, as a subclass with its own `compute` has it."""
    return type("Dense", (ConfusionMatrix,), {"compute": lambda self: self.counts})(**options)


def test_the_matrix_of_many_classes_is_sparse_and_its_picture_and_table_are_the_same():
    sparse, other = ConfusionMatrix(MANY, ignore_index=-100), dense(num_classes=MANY, ignore_index=-100)
    for batch in batches(300):  # more than wait to be counted
        sparse.update(*batch)
        other.update(*batch)
    matrix, same = sparse.compute(), other.compute()
    assert matrix.is_sparse and not same.is_sparse and torch.equal(matrix.to_dense(), same)
    assert torch.equal(matrix_picture(matrix), matrix_picture(same)) and matrix_table(matrix) == matrix_table(same)
    sparse.reset()
    assert sparse.compute().values().numel() == 0 and matrix_table(sparse.compute()).startswith("the 0 most")


def test_what_a_matrix_of_many_classes_has_seen_survives_a_checkpoint_and_is_summed_over_processes():
    whole, parts = Metrics({"m": ConfusionMatrix(MANY, -100)}), []
    for part in range(2):
        parts.append(Metrics({"m": ConfusionMatrix(MANY, -100)}))
        for i, batch in enumerate(batches(6)):
            if i % 2 == part:
                whole(*batch)
                parts[part](*batch)
    resumed = Metrics({"m": ConfusionMatrix(MANY, -100)})
    states = [unpacked(packed(part.state_dict())) for part in parts]
    resumed.load_state_dict(unpacked(packed(resumed.joined(states))), torch.device("cpu"))
    expected, found = whole.compute()["m"], resumed.compute()["m"]
    assert torch.equal(expected.indices(), found.indices()) and torch.equal(expected.values(), found.values())


@pytest.mark.parametrize("wrong", [MANY, -1])
def test_a_target_that_is_none_of_many_classes_is_named(wrong):
    ((output, target),) = batches(1)
    with pytest.raises(ValueError, match=f"num_classes is {MANY}, but there is a target {wrong}"):
        ConfusionMatrix(MANY, -100).update(output, target.clamp(max=-1).masked_fill(target >= 0, wrong))


END_OF_EPOCH = """
import pathlib, resource, sys, tempfile, torch
from logger.metrics import Metrics
from logger.tables import matrix_table
from logger.tensorboard import TensorBoardWriter
from model.metric import ConfusionMatrix
from utils.checkpoints.checkpoint import packed, unpacked

writer = TensorBoardWriter(pathlib.Path(tempfile.mkdtemp()), {})
writer.matrix("first", torch.eye(3), 0)
metrics = Metrics({"m": ConfusionMatrix(10_000)})
outputs, before = torch.zeros(64, 10_000), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for i in range(300):
    outputs[range(64), torch.randint(0, 10_000, (64,))] = 1.0 + i
    metrics(outputs, torch.randint(0, 10_000, (64,)))
metrics.load_state_dict(unpacked(packed(metrics.state_dict())), torch.device("cpu"))
matrix = metrics.compute()["m"]
writer.matrix("second", matrix, 1)
assert matrix.sum() == 300 * 64 and len(matrix_table(matrix).splitlines()) == 32
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_the_end_of_an_epoch_with_10_000_classes_needs_little_memory():
    done = run_python("-W", "error", "-c", END_OF_EPOCH)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 100


@pytest.mark.parametrize("stop", [2, 5])
def test_a_run_of_many_classes_that_is_stopped_ends_as_if_it_were_not(run_with_stops, stop, project):
    model = {"type": "LeNet", "args": project.config["model"]["args"] | {"num_classes": 1001}}
    metric = {"type": "ConfusionMatrix", "args": {"num_classes": 1001}}
    run_with_stops(stop, model=model, metrics=[metric], in_validation=stop == 5)
