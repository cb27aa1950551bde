"""Small checkpoints that ask torch for all memory or time are refused before torch reads them."""

import os
import pickle
import socket
import struct
import zipfile
from collections import Counter, OrderedDict

import pytest
import torch
from conftest import assert_same, load, run_python

from utils.checkpoints.checkpoint import load_checkpoint
from utils.checkpoints.plain import MOST_DEPTH, NotPlain, plain


def name(module, function):
    return b"c" + f"{module}\n{function}\n".encode()


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value):
    return b"\x8a" + bytes([9]) + value.to_bytes(9, "little", signed=True)


def numbers(*values):
    return b"(" + b"".join(map(number, values)) + b"t"


def called(module, function, *arguments):
    return name(module, function) + b"(" + b"".join(arguments) + b"tR"


def storage(count, key="0", kind="FloatStorage"):
    return b"(" + text("storage") + name("torch", kind) + text(key) + text("cpu") + number(count) + b"tQ"


def tensor(count, shape, strides, function="_rebuild_tensor_v2", offset=0):
    hooks = called("collections", "OrderedDict")
    parts = [storage(count), number(offset), numbers(*shape), numbers(*strides), b"\x89", hooks]
    return called("torch._utils", function, *parts[: 4 if function == "_rebuild_tensor" else 6])


def doubled(first, step, times=60):
    """Values of which each contains the one before twice, through the memo."""
    return first + b"q\0" + b"".join(step(i) for i in range(times))


def in_tuples(i):
    return b"h" + bytes([i]) + b"\x86q" + bytes([i + 1])


def in_lists(i):
    return b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1])


def filled_later(_=None):
    """Lists that are filled when others contain them already."""
    made = b"".join(b"]q" + bytes([i]) for i in range(60))
    filled = b"".join(b"h" + bytes([i]) + b"(" + 2 * (b"h" + bytes([i + 1])) + b"e" for i in range(59))
    return made + filled + b"h\0"


HUGE = 8 * 10**9
P = 2**61 - 1  # integers that differ by this have the same hash
SPARSE = called("torch.serialization", "_get_layout", text("torch.sparse_coo"))
PICKLES = {
    "bytearray": called("builtins", "bytearray", number(HUGE)),
    "bytearray of Python 2": called("__builtin__", "bytearray", number(HUGE)),
    "tensor class": called("torch", "FloatTensor", number(HUGE)),
    "tensor": called("torch", "Tensor", number(HUGE)),
    "new tensor": name("torch", "Tensor") + numbers(HUGE) + b"\x81",
    "untyped storage": called("torch.storage", "UntypedStorage", number(HUGE)),
    "storage larger than its record": storage(HUGE),
    "negative storage": storage(-1),
    "tensor larger than its storage": tensor(1, [HUGE], [1]),
    "old tensor larger than its storage": tensor(1, [HUGE], [1], "_rebuild_tensor"),
    "offset behind the storage": tensor(1, [1], [1], offset=HUGE),
    "strides beyond the storage": tensor(1, [2, 2], [HUGE, 1]),
    "quantized": tensor(1, [HUGE], [0], "_rebuild_qtensor"),
    "one number seen as many": tensor(1, [HUGE], [0]),
    "meta tensor": called("torch._utils", "_rebuild_meta_tensor_no_storage", name("torch", "float32"), numbers(HUGE)),
    "device tensor": called("torch._utils", "_rebuild_device_tensor_from_numpy", number(HUGE)),
    "tensor by its type": called(
        "torch._tensor", "_rebuild_from_type_v2", name("torch", "Tensor"), name("torch", "Tensor"), numbers(HUGE), b"}"
    ),
    "parameter with a number": called("torch._utils", "_rebuild_parameter", number(HUGE), b"\x89", b"}"),
    "state of a tensor": tensor(1, [1], [1]) + b"(" + storage(1) + number(0) + numbers(HUGE) + numbers(1) + b"tb",
    "codec": called("_codecs", "encode", text("a" * 100), text("punycode")),
    "nested tuples": doubled(b"K\0\x85", in_tuples),
    "nested tuples as a key": b"}" + doubled(b"K\0\x85", in_tuples) + b"K\0s",
    "lists that are filled later": filled_later(),
    "a list in itself": b"]q\0h\0a",
    "equal hashes": b"}(" + b"".join(number(i * P + 7) + b"N" for i in range(-500, 500)) + b"u",
    "deep tuples": b")" + b"\x85" * 100_000,
    "deep lists": b"]" * 5000 + b"a" * 4999,
    "text that ends too early": b"X\xff\xff\xff\xffabc",
    "long integer": b"\x8b\xff\xff\xff\x7f" + b"1" * 50,
    "repeated text": text("a" * 1000) + b"q\0](" + b"h\0" * 100_000 + b"e",
    "repeated bytes": text("a" * 1000) + b"q\0](" + b"h\0" * 5
    + (name("_codecs", "encode") + b"h\0" + text("latin1") + b"\x86R") * 20_000 + b"e",
}  # fmt: skip

CHILD = """
import resource, sys
from pathlib import Path
from utils.checkpoints.checkpoint import CheckpointError, load_checkpoint
limit = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + 300 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
for path in sys.argv[1:]:
    try:
        load_checkpoint(Path(path))
    except CheckpointError as error:
        print(error)
"""


def write_archive(path, content, record=b"\0\0\0\0"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + content + b".")
        archive.writestr("archive/data/0", record)
        archive.writestr("archive/version", "3\n")
    return path


def legacy(content):
    """A file of torch before 1.6."""
    head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    return b"".join(head) + b"\x80\x02" + content + b"." + pickle.dumps(["0"], 2)


def test_small_files_are_refused_in_little_memory_and_time(tmp_path):
    paths = [write_archive(tmp_path / f"{case}.pth", content) for case, content in PICKLES.items()]
    old = storage(HUGE)[:-2] + b"NtQ"
    for case, content in {"old storage": old, "old bytearray": PICKLES["bytearray"]}.items():
        paths.append(tmp_path / f"{case}.pth")
        paths[-1].write_bytes(legacy(content))
    done = run_python("-c", CHILD, *paths)
    assert done.returncode == 0, done.stderr[-2000:]
    told = done.stdout.splitlines()
    assert len(told) == len(paths)
    for path, line in zip(paths, told, strict=True):
        assert line.startswith(f"{path}: not a readable checkpoint (") and "MemoryError" not in line, line
        assert path.stat().st_size < 700_000


@pytest.mark.parametrize(
    "arguments", [["test.py", "-r"], ["train.py", "-r"], ["train.py", "-c", "config", "--init-from"]]
)
def test_commands_refuse_them(project, arguments):
    path = write_archive(project.folder / "small.pth", PICKLES["bytearray"])
    config = project.write_config()
    done = run_python(*[config if argument == "config" else argument for argument in arguments], path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "small.pth: not a readable checkpoint (it calls builtins.bytearray)" in done.stderr


SHARED = [1, 2.5]
GOOD = {
    "tensors": {"a": torch.ones(2, 3), "b": torch.zeros(3, 4).t()[1:], "c": torch.tensor(1.0), "d": torch.zeros(0, 2)},
    "kinds of tensors": [
        torch.nn.Parameter(torch.ones(2)),
        torch.ones(1, 2).t(),
        torch.zeros(1).expand(9),
    ],
    "dtypes": [torch.zeros(5, dtype=dtype) for dtype in (torch.bool, torch.bfloat16, torch.complex64, torch.int8)],
    "values": [1 + 2j, b"\xff\0", bytearray(b"\xfe"), {1, (2, 3)}, 10**30, None, True, -1.5, "text"],
    "torch's": [torch.device("cpu"), torch.float16, torch.Size([2, 3]), torch.strided],
    "dicts": [OrderedDict(a=1), Counter("aab"), {(1, "b"): 2, 3: 4}],
    "shared": [SHARED] * 500 + [{"key": SHARED}] * 500,
    "many keys": {(i, "a"): i for i in range(2000)} | {i: -i for i in range(2000)},
}


@pytest.mark.parametrize("is_new", [True, False], ids=["new", "legacy"])
@pytest.mark.parametrize("case", GOOD)
def test_good_files_load(tmp_path, case, is_new):
    path = tmp_path / "good.pth"
    torch.save({"value": GOOD[case]}, path, _use_new_zipfile_serialization=is_new)
    assert_same(load_checkpoint(path), load(path))


def test_the_versions_in_a_state_dict_stay(tmp_path):
    state = torch.nn.BatchNorm1d(3).state_dict()
    torch.save(state, tmp_path / "state.pth")
    assert load_checkpoint(tmp_path / "state.pth")._metadata == state._metadata


def test_a_state_that_is_too_deep_to_be_read_is_not_saved(tmp_path):
    deep = 0
    for _ in range(MOST_DEPTH):
        deep = [deep]
    torch.save({"deep": plain(deep)}, tmp_path / "deep.pth")
    load_checkpoint(tmp_path / "deep.pth")
    with pytest.raises(NotPlain, match="a nesting that is too deep"):
        plain([[deep]])


def test_what_is_no_regular_file_is_refused_at_once(project):
    folder, config = project.folder, project.write_config()
    os.mkfifo(folder / "fifo.pth")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(folder / "socket.pth"))
    (folder / "link.pth").symlink_to(folder / "fifo.pth")
    for path in [*(folder / f"{kind}.pth" for kind in ("fifo", "socket", "link")), "/dev/zero", "/dev/random"]:
        for arguments in (["-r", path], ["-c", config, "--init-from", path]):
            assert project.refused(*arguments).endswith(f"{path}: not a regular file. Name a checkpoint file.\n")
    server.close()


def test_a_reader_without_sizes_is_enough(tmp_path, monkeypatch):
    whole = torch._C.PyTorchFileReader

    class Reader:
        def __init__(self, file):
            reader = whole(file)
            self.get_all_records, self.get_record = reader.get_all_records, reader.get_record

    from utils.checkpoints.pickle_scan import check_pickles

    torch.save({"weight": torch.ones(3)}, tmp_path / "weights.pth")
    monkeypatch.setattr("torch._C.PyTorchFileReader", Reader)
    with open(tmp_path / "weights.pth", "rb") as file:
        check_pickles(file)
