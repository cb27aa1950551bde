"""A generator and a discriminator of 8x8 images, after DCGAN (https://arxiv.org/abs/1511.06434), told the class as in
https://arxiv.org/abs/1411.1784."""

import torch
from torch import Tensor, nn

SIDE = 8  # of an image, in pixels


class Generator(nn.Module):
    """Three transposed convolutions, 1 -> 2 -> 4 -> 8 pixels, with batch norms.

    Takes noise (B, noise_size), float, and classes (B,), int64; gives images (B, 1, 8, 8) from -1 to 1.
    """

    def __init__(self, num_classes: int, noise_size: int = 32, width: int = 16):
        super().__init__()
        self.num_classes, self.noise_size = num_classes, noise_size
        self.embedding = nn.Embedding(num_classes, noise_size)
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(2 * noise_size, 4 * width, kernel_size=2, bias=False),
            nn.BatchNorm2d(4 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(4 * width, 2 * width, kernel_size=4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, 1, kernel_size=4, stride=2, padding=1),
            nn.Tanh(),
        )

    def forward(self, noise: Tensor, classes: Tensor) -> Tensor:
        return self.layers(torch.cat([noise, self.embedding(classes)], dim=1)[:, :, None, None])


class Discriminator(nn.Module):
    """Convolutions, 8 -> 4 -> 2 pixels, with batch norms and leaky ReLUs; the class is a second channel of the image.

    Takes images (B, 1, 8, 8) and classes (B,); gives logits (B,): above 0 where an image looks real for its class.
    """

    def __init__(self, num_classes: int, width: int = 16):
        super().__init__()
        self.embedding = nn.Embedding(num_classes, SIDE * SIDE)
        self.layers = nn.Sequential(
            nn.Conv2d(2, width, kernel_size=3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, kernel_size=4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, kernel_size=4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(4 * width),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(16 * width, 1),
        )

    def forward(self, images: Tensor, classes: Tensor) -> Tensor:
        plane = self.embedding(classes).view(-1, 1, SIDE, SIDE)
        return self.layers(torch.cat([images, plane], dim=1))[:, 0]
