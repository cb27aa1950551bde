"""tests/bad_configs holds mistakes, one a file, and messages.txt what is said of each, to the letter."""

import re

import pytest
from conftest import ROOT

import train as train_script

FOLDER = ROOT / "tests" / "bad_configs"


def expected():
    """Of each file the lines that it leads to. ROOT stands for the project, LINE for a line of code."""
    entries = re.split(r"^(\S+)\n", (FOLDER / "messages.txt").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {name: text.strip().splitlines() for name, text in zip(entries[::2], entries[1::2], strict=True)}


MESSAGES = expected()


@pytest.mark.parametrize("name", MESSAGES)
def test_a_mistake_is_told_with_its_place_and_nothing_is_made(project, monkeypatch, name):
    monkeypatch.chdir(FOLDER)
    before = sorted((ROOT / "saved").rglob("*"))
    code, _, err = project.command(train_script, "-c", name, "-d", "cpu")
    told = re.sub(r"\.py:\d+", ".py:LINE", err.replace(str(ROOT), "ROOT"))
    assert told.splitlines() == [f"error: {line.strip()}" for line in MESSAGES[name]]
    assert code == 2
    assert sorted((ROOT / "saved").rglob("*")) == before


def test_every_file_has_its_messages():
    assert {path.name for path in FOLDER.iterdir()} == {"messages.txt", *MESSAGES}
    assert len(MESSAGES) >= 60
    assert all(lines for lines in MESSAGES.values())
