"""Models by name. Plain modules: constructors take plain values. Add yours here."""

from torch import Tensor, nn
from torch.nn import functional as F


class LeNet(nn.Module):
    """Two convolutions with pooling, and two linear layers, after LeCun et al. (1998), with ReLU and dropout.

    Takes (B, in_channels, image_size, image_size), float; gives log-probabilities (B, num_classes) for `nll_loss`.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 1,
        image_size: int = 8,
        channels: tuple[int, int] = (32, 64),
        hidden: int = 64,
        dropout: float = 0.25,
        activation: type[nn.Module] = nn.ReLU,
    ):
        super().__init__()
        first, second = channels
        self.conv1 = nn.Conv2d(in_channels, first, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(first, second, kernel_size=3, padding=1)
        self.activation = activation()
        self.dropout = nn.Dropout(dropout)
        self.fc1 = nn.Linear(second * (image_size // 4) ** 2, hidden)
        self.fc2 = nn.Linear(hidden, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features = F.max_pool2d(self.activation(self.conv1(images)), 2)  # (B, first, size / 2, size / 2)
        features = F.max_pool2d(self.activation(self.conv2(features)), 2)  # (B, second, size / 4, size / 4)
        hidden = self.activation(self.fc1(self.dropout(features.flatten(1))))
        return F.log_softmax(self.fc2(self.dropout(hidden)), dim=1)
