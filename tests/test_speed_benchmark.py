"""The benchmark of speed runs, and its page is made of it; how fast anything is, no test says."""

import os
import re
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT

sys.path.insert(0, str(ROOT))

from benchmarks import gpu, levers, measure, own_runs, report, speed
from benchmarks.contenders import CONTENDERS
from benchmarks.measure import FLOOR, Row
from benchmarks.workloads import WORKLOADS

PAGE = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
MARKS = r"<!-- figures: (\w+) -->\n(.*?)<!-- /figures -->"


def test_contenders_take_turns_and_reach_the_same_loss(monkeypatch, capsys):
    monkeypatch.setattr(measure, "TURN_SECONDS", 0.1)
    names = ["template"]
    rows = measure.side_by_side("tiny", names, rounds=1)
    assert list(rows) == [FLOOR, *names]
    for row in rows.values():
        assert len(row.ratios) == 1 and row.ratio > 0 and row.milliseconds[0] > 0 and row.megabytes[0] > 100
        assert row.losses[0] == pytest.approx(rows[FLOOR].losses[0], rel=0.05)
    table = report.table(rows)
    assert table.count("\n") == 1 + 2 and "| **template** |" in table


def test_a_contender_that_fails_ends_the_benchmark_and_all_of_its_processes(tmp_path):
    with pytest.raises(SystemExit, match=r"KeyError: .*nobody"):
        with measure.Contender("nobody", "tiny", tmp_path / "page") as own:
            own.warm_up()
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    names = [Path(f"/proc/{child}/cmdline").read_text() for child in children]
    assert not [name for name in names if "contenders.py" in name]


def test_a_run_is_watched_from_outside():
    resident, last = own_runs.watched_run("tiny", epochs=3)
    assert resident and all(100 < megabytes < 4000 for megabytes in resident)
    assert last["epoch"] == 3 and 0 <= last["data_wait_share"] < 1


def rows_with(ratio, **others):
    names = dict.fromkeys([FLOOR, *speed.ROWS["fashion"]], ratio) | {"template": ratio / 2} | others
    return {name: Row([value], [1.0], [0.5], [800.0]) for name, value in names.items()}


@pytest.mark.parametrize(
    ("rows", "missed"),
    [
        (rows_with(0.9), []),
        (rows_with(0.9, **{"template, as the bare loop": 1.2}), ["fashion: the same optimizer arguments, / bare loop"]),
        (
            rows_with(1.0, template=0.96),
            ["fashion: what the template chooses, / as people write it"],
        ),
        (rows_with(0.9) | {"ignite, PIL": Row([2.0], [1.0], [0.6], [800.0])}, ["fashion: losses apart"]),
        (
            rows_with(0.9) | {"template": Row([0.45], [1.0], [0.5], [900.0])},
            ["fashion: peak MB, more than hand-written"],
        ),
    ],
)
def test_a_limit_that_is_missed_is_told(monkeypatch, tmp_path, rows, missed):
    found = speed.checks("fashion", rows)
    assert [what for what, value, limit in found if value > limit] == missed
    lines = speed.verdict(found).splitlines()
    assert [line for line in lines if line.startswith("MISSED")] == [
        line for line in lines if any(what in line for what in missed)
    ]
    monkeypatch.setattr(speed, "side_by_side", lambda *_: rows)
    monkeypatch.setattr(speed, "DATA", tmp_path)
    monkeypatch.setattr(report, "KEPT", tmp_path / "kept.json")
    assert speed.main(["fashion"]) == int(bool(missed))
    assert report.kept() == {"fashion": rows}
    monkeypatch.setattr(speed, "DATA", tmp_path / "none")
    assert speed.main(["fashion"]) == 2


def test_levers_change_the_step_and_not_what_it_learns(monkeypatch):
    monkeypatch.setattr(levers, "TURN_SECONDS", 0.01)
    plain = levers.make_step(WORKLOADS["tiny"])
    monkeypatch.setattr(levers, "variants", lambda workload: {levers.PLAIN: plain, "none": plain})
    found = levers.compare(WORKLOADS["tiny"], turns=3)
    assert found[levers.PLAIN][1] == 1.0 and found["none"][0] > 0
    assert report.lever_table({"tiny": found}).splitlines()[0] == "| the step | tiny |"


def test_what_is_compared_is_there():
    rows = [*speed.ROWS.items(), *gpu.ROWS.items()]
    assert {workload for workload, _ in rows} <= set(WORKLOADS)
    assert {name for _, names in rows for name in names} <= set(CONTENDERS)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_without_a_gpu_its_benchmark_says_so(capsys):
    assert gpu.main([]) == 2
    assert capsys.readouterr().out == "This machine has no CUDA GPU.\n"


def test_the_page_has_every_figure_and_no_limit_is_missed():
    figures = dict(re.findall(MARKS, PAGE, re.DOTALL))
    on_gpu = {"machine_gpu", "levers_gpu", "fashion_gpu", "resnet_gpu"}
    assert set(figures) == {"machine", "limits", "start", "levers", "fashion", "linear", "resnet"} | on_gpu
    assert all(text.strip() for text in figures.values())
    assert figures["limits"].count("ok ") == 11 and "MISSED" not in PAGE
    assert (ROOT / "docs" / "performance.png").stat().st_size > 10_000
    assert report.replaced(PAGE, "start", "new").count("\nnew\n") == 1
