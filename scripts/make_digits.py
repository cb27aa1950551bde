"""Write data_loader/digits.gz from scikit-learn's copy of the UCI optical digits (CC BY 4.0).

    python scripts/make_digits.py        needs scikit-learn; training does not

Format, gzipped: 1,797 records of 66 bytes: split (0 train, 1 valid, 2 test), label (0 to 9), 8x8 pixels (0 to 16).
The split is drawn once, here, stratified by label, so that it never depends on a random generator's version.
"""

import gzip
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

TRAIN, VALID, TEST = 0, 1, 2
SEED = 0
TEST_SHARE, VALID_SHARE = 0.2, 0.1


def stratified_split(labels: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(SEED)
    split = np.full(len(labels), TRAIN, dtype=np.uint8)
    for label in np.unique(labels):
        indices = rng.permutation(np.flatnonzero(labels == label))
        test_count, valid_count = round(len(indices) * TEST_SHARE), round(len(indices) * VALID_SHARE)
        split[indices[:test_count]] = TEST
        split[indices[test_count : test_count + valid_count]] = VALID
    return split


if __name__ == "__main__":
    digits = load_digits()
    labels = digits.target.astype(np.uint8)
    records = np.column_stack([stratified_split(labels), labels, digits.data.astype(np.uint8)])
    path = Path(__file__).resolve().parent.parent / "data_loader" / "digits.gz"
    path.write_bytes(gzip.compress(records.tobytes(), compresslevel=9, mtime=0))
    print(f"{path.name}: {len(records)} records, {path.stat().st_size} bytes, splits {np.bincount(records[:, 0])}")
