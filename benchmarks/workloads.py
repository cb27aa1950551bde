"""What every contender trains: the same model, data, optimizer, loss and metrics, in plain torch."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from base.base_dataset import BaseDataset  # noqa: E402
from data_loader.datasets import UInt8Images  # noqa: E402
from data_loader.splits import stratified_split  # noqa: E402
from data_loader.transforms import NormalizeUint8  # noqa: E402
from model.metric import accuracy, top_k_accuracy  # noqa: E402


class LeNet(nn.Module):
    """21,840 parameters; the model of the template that most people know. (B, 1, 28, 28) to log-probabilities."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=5)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5)
        self.conv2_drop = nn.Dropout2d()
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, inputs):
        features = F.relu(F.max_pool2d(self.conv1(inputs), 2))
        features = F.relu(F.max_pool2d(self.conv2_drop(self.conv2(features)), 2))
        hidden = F.dropout(F.relu(self.fc1(features.flatten(1))), training=self.training)
        return F.log_softmax(self.fc2(hidden), dim=1)


class Linear(nn.Module):
    """One layer: next to no computation, so that what is left is the loop."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(784, 10)

    def forward(self, inputs):
        return F.log_softmax(self.layer(inputs.flatten(1)), dim=1)


@dataclass(frozen=True)
class Workload:
    """`model`, `transforms`: as a config says them. `samples`: in the training set.

    `epochs`: more than anybody waits for. `reports_grad_norm`: so does the bare loop. `device`: as `-d` says it.
    """

    model: str
    dataset: dict[str, Any]
    mean: list[float]
    std: list[float]
    transforms: list[dict[str, Any]]
    samples: int
    batch_size: int
    optimizer: dict[str, Any]
    epochs: int = 100_000
    loss: str = "nll_loss"
    reports_grad_norm: bool = False
    device: str = "cpu"

    def config(self, save_dir: str) -> dict[str, Any]:
        """A config of the template: metrics each step, TensorBoard, a checkpoint an epoch."""
        normalize = {"type": "NormalizeUint8", "args": {"mean": self.mean, "std": self.std}}
        transforms = {"train_transform": [*self.transforms, normalize], "eval_transform": [normalize]}
        return {
            "name": "benchmark",
            "model": {"type": self.model, "args": {"num_classes": 10} if "resnet" in self.model else {}},
            "dataset": {"type": self.dataset["type"], "args": self.dataset["args"] | transforms},
            "data_loader": {"batch_size": self.batch_size},
            "loss": self.loss,
            "metrics": ["accuracy", {"type": "top_k_accuracy", "args": {"k": 3}}],
            "optimizer": self.optimizer,
            "trainer": {"type": "Trainer", "epochs": self.epochs, "save_dir": save_dir, "monitor": "min loss"},
        }

    def make_model(self) -> nn.Module:
        torch.manual_seed(0)
        if "resnet" in self.model:
            from model.resnet import SmallImageResNet18

            return SmallImageResNet18(10)
        return {"benchmarks.workloads.LeNet": LeNet, "benchmarks.workloads.Linear": Linear}[self.model]()

    def make_optimizer(self, model: nn.Module, **arguments: Any) -> torch.optim.Optimizer:
        make = getattr(torch.optim, self.optimizer["type"])
        return make(model.parameters(), **self.optimizer["args"], **arguments)

    def loss_fn(self, outputs, targets):
        return getattr(F, self.loss)(outputs, targets)

    def metrics(self, outputs, targets):
        return {"accuracy": accuracy(outputs, targets), "top_k_accuracy": top_k_accuracy(outputs, targets, k=3)}

    def pixels(self):
        """The training set as it is kept: uint8 (N, C, H, W), classes (N,)."""
        if self.dataset["type"] != "FashionMNIST":
            dataset = Noise("train", **self.dataset["args"])
            return dataset.images, dataset.targets
        import torchvision

        whole = torchvision.datasets.FashionMNIST(str(ROOT / "data"))
        chosen, _ = stratified_split(whole.targets, self.dataset["args"]["valid_size"], 0)
        return whole.data[chosen, None], whole.targets[chosen]

    def normalized(self):
        """The training set as float32, ready for the model."""
        pixels, targets = self.pixels()
        return NormalizeUint8(self.mean, self.std)(pixels), targets


class Noise(UInt8Images):
    """Random pixels in random classes, in the shape of a data set that cannot be had without a network."""

    def __init__(self, split, samples, size, channels, train_transform=(), eval_transform=()):
        generator = torch.Generator().manual_seed(0)
        count = samples if split == "train" else 0
        images = torch.randint(256, (count, channels, size, size), dtype=torch.uint8, generator=generator)
        targets = torch.randint(10, (count,), generator=generator)
        super().__init__(split, images, targets, train_transform, eval_transform)


class Batched(BaseDataset):
    """The training set for peers, whole batches at a time: what `__getitems__` gives, their loaders take as it is."""

    def __init__(self, workload: Workload):
        super().__init__("train")
        self.images, self.targets = workload.pixels()
        self.normalize = NormalizeUint8(workload.mean, workload.std)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.__getitems__([index])

    def __getitems__(self, indices):
        return self.normalize(self.images[indices]), self.targets[indices]


WORKLOADS = {
    "fashion": Workload(
        model="benchmarks.workloads.LeNet",
        dataset={"type": "FashionMNIST", "args": {"valid_size": 6000}},
        mean=[0.286], std=[0.353], transforms=[],
        samples=54_000, batch_size=128,
        optimizer={"type": "Adam", "args": {"lr": 0.001, "amsgrad": True}},
    ),
    "linear": Workload(
        model="benchmarks.workloads.Linear",
        dataset={"type": "FashionMNIST", "args": {"valid_size": 6000}},
        mean=[0.286], std=[0.353], transforms=[],
        samples=54_000, batch_size=128, reports_grad_norm=True,
        optimizer={"type": "Adam", "args": {"lr": 0.001}},
    ),
    "tiny": Workload(  # to try the benchmarks on
        model="benchmarks.workloads.Linear",
        dataset={"type": "benchmarks.workloads.Noise", "args": {"samples": 640, "size": 28, "channels": 1}},
        mean=[0.5], std=[0.3], transforms=[],
        samples=640, batch_size=64,
        optimizer={"type": "Adam", "args": {"lr": 0.001}},
    ),
    "resnet": Workload(
        model="model.resnet.SmallImageResNet18",
        dataset={"type": "benchmarks.workloads.Noise", "args": {"samples": 320, "size": 32, "channels": 3}},
        mean=[0.491, 0.482, 0.447], std=[0.247, 0.243, 0.262],
        transforms=[{"type": "RandomShift", "args": {"padding": 4}}, {"type": "RandomFlip"}],
        samples=320, batch_size=32, loss="cross_entropy",
        optimizer={"type": "SGD", "args": {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0005}},
    ),
}  # fmt: skip
WORKLOADS |= {
    "fashion_gpu": replace(WORKLOADS["fashion"], device="cuda"),
    "resnet_gpu": replace(
        WORKLOADS["resnet"],
        dataset={"type": "benchmarks.workloads.Noise", "args": {"samples": 12_800, "size": 32, "channels": 3}},
        samples=12_800, batch_size=256, device="cuda",
    ),
}  # fmt: skip
