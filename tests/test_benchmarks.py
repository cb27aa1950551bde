"""The benchmarks run, and print what they promise; how fast anything is, no test says."""

import re
import sys

import pytest
from conftest import ROOT, run_python

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


SCALE = """
import contextlib, io, os, sys
sys.path[:0] = ["benchmarks"]
import scale, train

def output_of(command, **variables):  # in this process, which is quicker
    os.environ.update(variables)
    part = getattr(scale, f"part_{command[3]}") if command[2] == "--part" else train.main
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        part(command[4:] if command[2] == "--part" else command[2:])
    for name in variables:
        del os.environ[name]
    return out.getvalue()

scale.output_of = output_of
scale.main(["--tensors", "20", "--megabytes", "1", "--classes", "20", "--runs", "2"])
"""


def test_scale():
    done = run_python("-c", SCALE)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^(ok    |MISSED) .+ -?\d+\.\d\d   \(at most", done.stdout, re.MULTILINE)) == 7
