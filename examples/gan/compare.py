"""What the figures of a run are worth: the same measures, taken of digits from elsewhere. Writes a picture, too.

python -m examples.gan.compare saved/digits_gan/RUN_ID examples/gan/digits.png
"""

import sys
from collections.abc import Iterator

import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from examples.commands import parser, png
from examples.gan.data import SymmetricDigits
from examples.gan.metric import FrechetDistance, NearestNeighbourAccuracy
from examples.gan.model import Generator
from examples.gan.pictures import grid
from utils.checkpoints.run_checkpoints import BEST, open_checkpoint
from utils.errors import UserError
from utils.exit_codes import exit_code_of

CLASSES, EACH, ROWS = 10, 126, 8  # digits of each class, as many as in the training set; rows of the picture
Digits = tuple[Tensor, Tensor]  # images (N, 1, 8, 8) from -1 to 1, classes (N,)


def main(argv: list[str] | None = None) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("run", metavar="RUN")
    arguments.add_argument("picture", metavar="PNG", type=png)
    args = arguments.parse_args(argv)
    file, checkpoint = open_checkpoint(args.run, prefer=BEST)
    if checkpoint["config"]["model"]["type"] != f"{Generator.__module__}.{Generator.__name__}":
        raise UserError(f"{file}: is of another model than this example's.")
    torch.manual_seed(0)
    train = digits_of("train")
    generator = Generator(**checkpoint["config"]["model"]["args"])
    sources = references(train) | {"the generator, untrained": generated_by(generator)}
    generator.load_state_dict(checkpoint["model"])
    sources["the generator"] = generated_by(generator)
    print(f"{'':<28}frechet_distance  nearest_neighbour_accuracy\n{'':<28} valid   test     valid   test")
    for name, digits in sources.items():
        print(f"{name:<28}" + "   ".join(" ".join(f"{value:6.2f}" for value in row) for row in scores(digits)))
    to_pil_image(picture_of(train, sources["the generator"])).save(args.picture)


def digits_of(split: str) -> Digits:
    dataset = SymmetricDigits(split)
    return dataset.__getitems__(list(range(len(dataset))))


def references(train: Digits) -> dict[str, Digits]:
    """Digits that no network has made."""
    images, classes = train
    order, even = torch.randperm(len(classes)), torch.arange(CLASSES).repeat_interleave(EACH)
    by_class = [images[classes == number] for number in range(CLASSES)]
    return {
        "training digits": train,
        "a normal of each class": (torch.cat([normal_like(own, EACH) for own in by_class]), even),
        "one normal of all": (normal_like(images, len(images)), classes[order]),
        "the mean of each class": (torch.stack([own.mean(dim=0) for own in by_class])[even], even),
    }


def normal_like(images: Tensor, count: int) -> Tensor:
    """Draw from the normal distribution with the mean and covariance of these images."""
    mean = images.mean(dim=0, keepdim=True)
    centred = (images - mean).flatten(1) / (len(images) - 1) ** 0.5
    return mean + (torch.randn(count, len(images)) @ centred).view(count, *images.shape[1:])


@torch.no_grad()
def generated_by(generator: Generator) -> Digits:
    classes = torch.arange(CLASSES).repeat_interleave(EACH)
    return generator.eval()(torch.randn(len(classes), generator.noise_size), classes), classes


def scores(digits: Digits) -> Iterator[list[float]]:
    """Of each measure, its values beside the validation and the test digits."""
    for measure in (FrechetDistance(), NearestNeighbourAccuracy()):
        values = []
        for split in ("valid", "test"):
            measure.reset()
            measure.update(digits, digits_of(split))
            values.append(measure.compute().item())
        yield values


def picture_of(real: Digits, generated: Digits) -> Tensor:
    """The first digits of each class, in a column: on the left real ones, on the right generated ones."""
    halves = []
    for images, classes in (real, generated):
        first = torch.stack([images[classes == number][:ROWS] for number in range(CLASSES)], dim=1)
        halves.append(grid(first.flatten(0, 1), columns=CLASSES))
    gap = torch.full((3, halves[0].shape[1], 24), 255, dtype=torch.uint8)
    return torch.cat([halves[0], gap, halves[1]], dim=2)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
