"""How near generated images are to real ones. Two measures, since each is blind where the other sees."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class _TwoSets:
    """Keeps what is generated and what is real, each as (images (B, C, H, W), classes (B,)), until the phase ends."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.generated: list[tuple[Tensor, Tensor]] = []
        self.real: list[tuple[Tensor, Tensor]] = []

    def update(self, output: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor]) -> None:
        self.generated.append((output[0].detach(), output[1]))
        self.real.append((target[0], target[1]))

    def merge_state(self, others: Iterable[Any]) -> None:
        """Take in what others have seen: those of the other processes of a run."""
        for other in others:
            self.generated += other.generated
            self.real += other.real


class FrechetDistance(_TwoSets):
    """Between the normal distributions with the means and covariances of the pixels of both sets; 0 where those agree.

    As in FID (https://arxiv.org/abs/1706.08500), with pixels in the place of Inception's features. Sees where variety
    is missing; blind to all but means and covariances: normal noise that has those of the digits scores as digits do.
    """

    def compute(self) -> Tensor:
        (generated, _), (real, _) = _joined(self.generated), _joined(self.real)
        return frechet_distance(generated, real)


class NearestNeighbourAccuracy(_TwoSets):
    """Share of real images whose nearest generated one (Euclidean, in pixels) has their class.

    The classification accuracy score (https://arxiv.org/abs/1905.10887) with one nearest neighbour for a classifier.
    Sees whether images look like their class; hardly whether variety is missing: the mean image of each class scores
    well.
    """

    def compute(self) -> Tensor:
        (generated, generated_classes), (real, classes) = _joined(self.generated), _joined(self.real)
        nearest = torch.cdist(real, generated).argmin(dim=1)
        return (generated_classes[nearest] == classes).double().mean()


def frechet_distance(first: Tensor, second: Tensor) -> Tensor:
    """|mean1 - mean2|^2 + trace(cov1 + cov2 - 2 (cov1 cov2)^(1/2)) of two sets of vectors (N, D), float64."""
    covariances = torch.cov(first.T), torch.cov(second.T)
    values, vectors = torch.linalg.eigh(covariances[0])
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    mixed = torch.linalg.eigvalsh(root @ covariances[1] @ root).clamp(min=0).sqrt().sum()
    distance = (first.mean(dim=0) - second.mean(dim=0)).square().sum()
    return distance + covariances[0].trace() + covariances[1].trace() - 2 * mixed


def _joined(batches: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """All of them: vectors (N, D), float64, and classes (N,); on the CPU, since MPS has no float64."""
    vectors = torch.cat([images.flatten(1).cpu().double() for images, _ in batches])
    return vectors, torch.cat([classes.cpu() for _, classes in batches])
