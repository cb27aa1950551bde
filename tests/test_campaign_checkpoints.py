"""Checkpoints that are changed at random, and sealed again: refused in one message, or used; never anything else."""

import copy
import random
import zipfile
from collections import Counter

import pytest
import torch
from conftest import load

import test as test_script
import train as train_script
from utils.checkpoints.checksum import write_sealed
from utils.files import write_atomically

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]
VALUES = [
    None, True, -1, 0, 10**30, 10**400, 1e400, float("nan"), "", "text", "\x1b[2J", "a" * 10_000, b"bytes",
    [], {}, (), set(), {1: 2}, [[[]]],
    torch.zeros(0), torch.zeros(3), torch.tensor(2), torch.zeros(1).expand(10**9), torch.ones(2, 2).bool(),
]  # fmt: skip


def places(value, path=()):
    """Each key and index in nested dicts, lists and tuples."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for key, item in items:
        yield (*path, key)
        if len(path) < 8:
            yield from places(item, (*path, key))


def changed(value, path, change):
    """A copy with one place changed; `change` is given the dict or list that holds it, and the key."""
    if len(path) == 1:
        holder = list(value) if isinstance(value, (list, tuple)) else copy.copy(value)
        change(holder, path[0])
        return type(value)(holder) if isinstance(value, tuple) else holder
    holder = list(value) if isinstance(value, (list, tuple)) else copy.copy(value)
    holder[path[0]] = changed(value[path[0]], path[1:], change)
    return type(value)(holder) if isinstance(value, tuple) else holder


def change_value(draw, checkpoint, path):
    """Another value at a random place of the checkpoint; or none, or another name."""
    place = draw.choice(list(places(checkpoint)))
    kind = draw.choice(["value", "value", "value", "drop", "rename"])

    def change(holder, key):
        if kind == "value":
            holder[key] = draw.choice(VALUES)
        elif kind == "drop" or isinstance(holder, list):
            del holder[key]
        else:
            holder[f"{key}x"] = holder.pop(key)

    content = changed(checkpoint, place, change)
    write_atomically(path, lambda file: write_sealed(file, lambda sink: torch.save(content, sink)))


def change_bytes(draw, good, path):
    """Other bytes in the pickle, with the archive's own checksums right again."""

    def write(sink):
        with zipfile.ZipFile(good) as old, zipfile.ZipFile(sink, "w") as new:
            for member in old.infolist():
                content = bytearray(old.read(member))
                if member.filename.endswith("data.pkl"):
                    for _ in range(draw.choice([1, 1, 2, 8])):
                        place = draw.randrange(len(content))
                        content[place : place + draw.choice([0, 1])] = bytes(
                            draw.randrange(256) for _ in range(draw.choice([0, 1, 1, 4]))
                        )
                new.writestr(zipfile.ZipInfo(member.filename), bytes(content))

    write_atomically(path, lambda file: write_sealed(file, write))


@pytest.mark.parametrize("way", ["values", "bytes"])
@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_changed_at_random_is_refused_or_used(project, times, way):
    run = project.train(trainer={"save_steps": 7, "epochs": 1, "keep_last": None})
    good = run / "checkpoint-step7.pth"
    checkpoint, draw, codes = load(good), random.Random(way), Counter()
    for number in range(times(40, 1000)):
        path = run / "changed.pth"
        if way == "values":
            change_value(draw, checkpoint, path)
        else:
            change_bytes(draw, good, path)
        script = draw.choice([train_script, test_script])
        code, out, err = project.command(script, "-r", path)
        codes[code] += 1
        assert code in (0, 1, 2) and "Traceback" not in out + err, (number, out, err)
        assert code == 0 or err.startswith("error: "), (number, out, err)
        assert "\x1b" not in out + err
        for made in run.glob("events*"):
            made.unlink()
    print(f"{way}: exit codes {dict(codes)}")
    assert codes[2] > codes[1]
