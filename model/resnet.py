"""Residual networks for small images."""

from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet


class SmallImageResNet18(ResNet):
    """ResNet-18 (He et al., 2015) for 32x32 images: a 3x3 first convolution, and no pooling behind it.

    Takes (B, 3, H, W), float; gives logits (B, num_classes) for `cross_entropy`.
    """

    def __init__(self, num_classes: int):
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes=num_classes)
        self.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
        self.maxpool = nn.Identity()
