"""Run directories of earlier versions of this project: their runs continue to the same end.

Each folder in `old_runs` is a run that was stopped within its second or third epoch, with the metrics of the same run
without a stop.
"""

import json
import shutil

import pytest
from conftest import ROOT, load, metrics_of

OLD_RUNS = ROOT / "tests" / "old_runs"


@pytest.mark.parametrize("kind", ["plain", "options", "sharded"])
def test_a_run_of_an_earlier_version_continues(project, kind):
    run = project.folder / "saved" / kind / "20261128-120000"
    shutil.copytree(OLD_RUNS / kind, run)
    expected = [json.loads(line) for line in (run / "metrics_of_whole_run.jsonl").read_text().splitlines()]
    project.resume(run, "-d", "cpu")
    assert len(metrics_of(run)) == len(expected) == 3
    for values, others in zip(metrics_of(run), expected, strict=True):
        names = ("epoch", "step", "lr") if kind == "sharded" else values  # one process draws other numbers than two
        found, wanted = ({name: line[name] for name in names} for line in (values, others))
        assert found == pytest.approx(wanted, rel=1e-3, abs=1e-3)  # processors round differently
    saved = load(run / "last.pth")
    assert (saved["epoch"], saved["step"]) == (3, 60)


@pytest.mark.parametrize("kind", ["plain", "options", "sharded"])
def test_a_run_of_an_earlier_version_is_scored(project, kind):
    metrics, _ = project.test("-r", OLD_RUNS / kind / "last.pth")
    assert 0 <= metrics["accuracy"] <= 1
