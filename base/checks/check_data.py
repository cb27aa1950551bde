"""What stands in the data: samples in two splits, and classes without a sample."""

import ctypes
import time
from collections import Counter
from collections.abc import Mapping, Sized
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from torch import Tensor
from torch.utils.data import IterableDataset

from base.checks.report import Report, listed
from base.run import Batches
from utils.batches.attributes import with_transforms_of
from utils.batches.broken_file import file_behind

SECONDS = 10.0  # for all reading
MOST_SHARED = 0.01  # of the validation samples
SHARED, CLASSES = "samples of valid in train", "training samples"


@dataclass
class _Seen:
    """The first samples of a split. `total`: how many there are. `error`: why the reading ended too early."""

    total: int
    digests: list[bytes | None] = field(default_factory=list)
    classes: list[int | None] = field(default_factory=list)
    error: Exception | None = None

    @property
    def count(self) -> int:
        return len(self.digests)


def check_data(batches: Mapping[str, Batches], classes: int | None, report: Report) -> None:
    """Read both splits as far as `SECONDS` suffice. `classes`: how many the loss tells apart, if that is known."""
    end = time.monotonic() + SECONDS
    train, valid = (batches[split].dataset if split in batches else None for split in ("train", "valid"))
    if _is_stream(train):
        return report.row(SHARED, "not looked at: train is an iterable data set")
    if valid is None or _is_stream(valid):
        report.row(SHARED, "there is no validation set" if valid is None else "not looked at: valid is iterable")
        seen = _read("train", train, train, end, report)
    else:
        of_valid = _read("valid", valid, valid, end - SECONDS / 2, report)
        as_valid = with_transforms_of(valid, train)
        seen = _read("train", train, as_valid, end, report)
        report.row(SHARED, _shared(seen, of_valid, _is_random(as_valid) or _is_random(valid), report))
    _describe_classes(seen, classes, report)


def _is_stream(dataset: Any) -> bool:
    return isinstance(dataset, IterableDataset) or not isinstance(dataset, Sized)


def _is_random(dataset: Any) -> bool:
    """Whether a sample is another one each time that it is read."""
    try:
        return any(len({_digest_of(dataset[index]) for _ in range(8)}) > 1 for index in range(min(2, len(dataset))))
    except Exception:
        return True  # told where it was read first


# ---- reading ----


def _read(split: str, dataset: Any, readable: Any, until: float, report: Report) -> _Seen:
    """Go through `readable`, in which the samples of `dataset` are not augmented."""
    seen = _Seen(len(dataset))
    for index in range(seen.total):
        if time.monotonic() > until:
            break
        try:
            sample = readable[index]
        except Exception as error:
            seen.error = error
            if reason := _why_broken(dataset, index):
                report.problem(f"dataset: {split} sample {index} cannot be loaded: {reason}. Mend it or leave it out.")
            break
        seen.digests.append(_digest_of(sample))
        seen.classes.append(_class_of(sample))
    return seen


def _why_broken(dataset: Any, index: int) -> str:
    try:
        dataset[index]
    except NotImplementedError:  # whole batches alone can be read, by `__getitems__`
        return ""
    except Exception as error:
        file = file_behind(error)
        return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".") + (f" (file {file})" if file else "")
    return ""


def _class_of(sample: Any) -> int | None:
    """The second element, where it is one whole number."""
    target: Any = sample[1] if isinstance(sample, (tuple, list)) and len(sample) > 1 else None
    if getattr(target, "shape", None) == ():
        target = target.item()
    return target if isinstance(target, int) and not isinstance(target, bool) else None


def _digest_of(sample: Any) -> bytes | None:
    """Of the inputs: the first element, or all where that is a mere number or there are no elements."""
    inputs = sample[0] if isinstance(sample, (tuple, list)) and len(sample) else sample
    if isinstance(inputs, (int, float)) or getattr(inputs, "shape", None) == ():
        inputs = sample
    digest = blake2b(digest_size=16)
    try:
        for part in _bytes_in(inputs):
            digest.update(part)
    except TypeError:
        return None
    return digest.digest()


def _bytes_in(value: Any) -> Any:
    """All that makes two values the same, with their types and shapes.

    Raises:
        TypeError: something of no known kind is in it.
    """
    if isinstance(value, Tensor):
        dense = value.detach().cpu().to_dense().contiguous()
        yield f"{dense.dtype}{tuple(dense.shape)}".encode()
        yield ctypes.string_at(dense.data_ptr(), dense.nbytes)  # NumPy, which could tell, need not be there
    elif hasattr(value, "tobytes"):  # an array, or a picture of PIL's
        yield f"{type(value).__name__}{getattr(value, 'shape', getattr(value, 'size', ''))}".encode()
        yield value.tobytes()
    elif isinstance(value, (dict, tuple, list)):
        yield f"{len(value)} of".encode()
        for item in sorted(value.items(), key=repr) if isinstance(value, dict) else value:
            yield from _bytes_in(item)
    elif value is None or isinstance(value, (str, bytes, int, float, complex)):
        yield f"{type(value).__name__} {value!r};".encode()
    else:
        raise TypeError


# ---- telling ----


def _shared(train: _Seen, valid: _Seen, is_random: bool, report: Report) -> str:
    """How many of the validation samples stand in the training set, too."""
    if train.error or valid.error:
        return "not looked at: a sample cannot be read alone"
    if is_random:
        return "not looked at: a sample is another one each time that it is read"
    if None in (*train.digests, *valid.digests):
        return "not looked at: samples hold something else than tensors, arrays, text and numbers"
    known = set(train.digests)
    count = sum(digest in known for digest in valid.digests)
    found = f"{count:,} of {valid.count:,}"
    if count > MOST_SHARED * valid.count:
        report.problem(
            f"dataset: {found} validation samples stand in the training set, too, so that val_ values flatter. Leave "
            "them out of one of the splits."
        )
    is_whole = (train.count, valid.count) == (train.total, valid.total)
    return found + ("" if is_whole else f"; looked at the first {train.count:,} of train and {valid.count:,} of valid")


def _describe_classes(seen: _Seen, classes: int | None, report: Report) -> None:
    """Say which is rarest and which most frequent, and which of the loss's have no sample."""
    if not seen.classes or None in seen.classes:
        return
    counts = Counter(target for target in seen.classes if target is not None)
    (most, most_count), *_, (least, least_count) = [*counts.most_common(), *counts.most_common()[-1:]]
    found = f"{len(counts):,} classes, from {least_count:,} samples (class {least}) to {most_count:,} (class {most})"
    is_whole = seen.count == seen.total
    report.row(CLASSES, found + ("" if is_whole else f"; looked at the first {seen.count:,} of train"))
    dead = [target for target in range(classes or 0) if target not in counts]
    if dead and is_whole:
        report.problem(
            f"dataset: no training sample is of class {listed(dead)}, though the loss tells {classes} apart. Give the "
            "model fewer outputs, or the training set such samples."
        )
