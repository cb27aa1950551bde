"""The benchmarks run, and print what they promise; how fast anything is, no test says."""

import re
import sys

from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))


def test_checkpoints(tmp_path, capsys):
    import checkpoints

    checkpoints.files_of(1, tmp_path)
    assert len(re.findall(r"ratio \d+\.\d\d", capsys.readouterr().out)) == 2
