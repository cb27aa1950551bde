"""The benchmarks run, and print what they promise; how fast anything is, no test says."""

import re
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))


def test_checkpoints(tmp_path, capsys):
    import checkpoints

    checkpoints.files_of(1, tmp_path)
    assert len(re.findall(r"ratio \d+\.\d\d", capsys.readouterr().out)) == 2


def test_config_errors(monkeypatch, capsys):
    import config_errors

    monkeypatch.setattr(config_errors, "REPEATS", 1)
    with pytest.raises(SystemExit):
        config_errors.main()
    assert len(re.findall(r"\d\.\d\d +\d+\.\d +\d+\.\d\d", capsys.readouterr().out)) == 7 + 1
