"""Data sets by name. Each takes the split first. Add yours here: a class with `__len__` and `__getitem__`."""

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from base.base_dataset import SPLITS, BaseDataset
from data_loader.splits import stratified_split
from data_loader.transforms import NormalizeUint8, apply_to_batch
from utils.errors import ConfigError
from utils.paths import project_path


class UInt8Images(BaseDataset):
    """Images in memory as uint8 (N, C, H, W) with targets (N,); fetched and transformed a batch at a time.

    A sample is `(image, target)`: float32 (C, H, W) as the transforms leave it, and an int64 scalar.
    `train_transform`, `eval_transform`: applied in order, the one to "train", the other to "valid" and "test".
    """

    def __init__(
        self,
        split: str,
        images: Tensor,
        targets: Tensor,
        train_transform: Sequence[nn.Module] = (),
        eval_transform: Sequence[nn.Module] = (),
    ):
        super().__init__(split)
        self.images = images
        self.targets = targets
        self.transforms = list(train_transform if split == "train" else eval_transform)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        images, targets = self.__getitems__([index])
        return images[0], targets[0]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        index = torch.tensor(indices, dtype=torch.int64)  # index_select: ten times as fast as [indices]
        images, targets = self.images.index_select(0, index), self.targets.index_select(0, index)
        return apply_to_batch(self.transforms, images), targets


class Digits(UInt8Images):
    """UCI optical digits, 8x8 pixels: 1,259 train, 179 valid, 359 test. Stands in the repository; nothing to download.

    E. Alpaydin, C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI, https://doi.org/10.24432/C50P49,
    CC BY 4.0; the copy that scikit-learn carries, with splits fixed by scripts/make_digits.py.
    """

    def __init__(self, split: str, train_transform: Sequence[nn.Module] = ()):
        content = gzip.decompress((Path(__file__).parent / "digits.gz").read_bytes())
        records = torch.frombuffer(bytearray(content), dtype=torch.uint8).view(-1, 66)  # split, label, 64 pixels
        if split in SPLITS:
            records = records[records[:, 0] == SPLITS.index(split)]
        normalize = NormalizeUint8(mean=[0.305], std=[0.376], full_scale=16.0)
        images, targets = records[:, 2:].reshape(-1, 1, 8, 8), records[:, 1].long()
        super().__init__(split, images, targets, [*train_transform, normalize], [normalize])


class TorchvisionImages(UInt8Images):
    """A torchvision data set with train and test parts. "valid" is cut from the training part, stratified by target;
    the official test part stays as it is.

    `data_dir`: where torchvision keeps its files. `valid_size`: samples for "valid"; 0 for none.
    `split_seed`: another one cuts another validation set. `download`: fetch missing files.

    Raises:
        ConfigError: files are missing and cannot be fetched; says what to put where.
    """

    name = ""
    files = ""

    def __init__(
        self,
        split: str,
        train_transform: Sequence[nn.Module] = (),
        eval_transform: Sequence[nn.Module] = (),
        data_dir: str = "data/",
        valid_size: int = 5000,
        split_seed: int = 0,
        download: bool = True,
    ):
        images, targets = self._read(project_path(data_dir), is_train=split != "test", download=download)
        if split != "test":
            train, valid = stratified_split(targets, valid_size, split_seed)
            chosen = train if split == "train" else valid
            images, targets = images[chosen], targets[chosen]
        super().__init__(split, images, targets, train_transform, eval_transform)

    def _read(self, folder: Path, is_train: bool, download: bool) -> tuple[Tensor, Tensor]:
        import torchvision.datasets

        source = getattr(torchvision.datasets, self.name)
        try:
            dataset = source(str(folder), train=is_train, download=False)
        except (RuntimeError, OSError):
            dataset = self._download(source, folder, is_train) if download else None
        if dataset is None:
            tried = "and they could not be downloaded" if download else "and download is off"
            raise ConfigError(
                f"dataset.args.data_dir: {folder} lacks files of {self.name}, {tried}. Put there: {self.files}."
            )
        return self._tensors(dataset)

    def _download(self, source: Any, folder: Path, is_train: bool) -> Any:
        try:
            return source(str(folder), train=is_train, download=True)
        except (RuntimeError, OSError):  # no network, a mirror down, a damaged file, a read-only folder
            return None

    def _tensors(self, dataset: Any) -> tuple[Tensor, Tensor]:
        return dataset.data[:, None], dataset.targets


class MNIST(TorchvisionImages):
    """Handwritten digits, 28x28 grey: 60,000 for training, 10,000 for testing."""

    name = "MNIST"
    files = "MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte, the four files of the data set, unpacked"


class FashionMNIST(TorchvisionImages):
    """Pictures of clothing, 28x28 grey: 60,000 for training, 10,000 for testing (https://arxiv.org/abs/1708.07747)."""

    name = "FashionMNIST"
    files = (
        "FashionMNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte, the four files of the data set, unpacked "
        "(Debian and Ubuntu: the package dataset-fashion-mnist has them in /usr/share/datasets/fashion-mnist)"
    )


class CIFAR10(TorchvisionImages):
    """Small photographs in ten classes, 32x32 RGB: 50,000 for training, 10,000 for testing."""

    name = "CIFAR10"
    files = "the unpacked folder cifar-10-batches-py of cifar-10-python.tar.gz"

    def _tensors(self, dataset: Any) -> tuple[Tensor, Tensor]:
        images = torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous()  # (N, H, W, C) -> (N, C, H, W)
        return images, torch.tensor(dataset.targets)
