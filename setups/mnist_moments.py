"""A classification beside two real regressions: which digit, how bright its stroke is, and how far it leans.

With p[y, x] the value of a pixel in [0, 1], row y counted downwards, and m its sum over the image:

- intensity is m divided by the number of pixels with p > 0, the mean value of the stroke's pixels;
- slant is mu11 / mu02, where mu11 = sum p (x - x0)(y - y0) / m and mu02 = sum p (y - y0)^2 / m are central second
  moments around the centroid (x0, y0): by so many columns each row of the digit is shifted against the row above it. It
  is the shear that is taken out where MNIST is deskewed, as by OpenCV's sample `digits.py`; 0 for a digit of one row.

Both are standardised with mean and deviation of the 55,000 training images, so that a squared error of 1 is that of
always guessing the mean.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtlbench import Setup, Split, classification, data, register_setup, regression

VALIDATION = 5_000  # samples, the last of the training images, as in the setup mnist
SIDE, WHITE = 28, 255
MEAN, DEVIATION = 0.1307, 0.3081  # of the training images' pixels, as a share of 255
INTENSITY, SLANT = (0.67634, 0.06707), (-0.10861, 0.27700)
"""Mean and standard deviation over the training images."""


def moments(images: Tensor) -> Tensor:
    """Intensity and slant, `[N, 2]`, of uint8 images `[N, 784]`, not yet standardised."""
    p = images.view(-1, SIDE, SIDE).float() / WHITE  # [N, y, x]
    place = torch.arange(float(SIDE))
    rows, columns, mass = p.sum(2), p.sum(1), p.sum((1, 2)).clamp_min(1 / WHITE)
    y0, x0 = rows @ place / mass, columns @ place / mass  # [N]
    mu11 = torch.einsum("nyx,y,x->n", p, place, place) / mass - x0 * y0
    mu02 = rows @ place.square() / mass - y0.square()
    slant = torch.where(mu02 > 1e-6, mu11 / mu02.clamp_min(1e-6), 0.0)
    intensity = mass / (p > 0).sum((1, 2)).clamp_min(1)
    return torch.stack([intensity, slant], dim=-1)


def split_of(images: Tensor, labels: Tensor) -> Split:
    """Images with the digit and both standardised moments, `[N, 3]`."""
    (mean_1, deviation_1), (mean_2, deviation_2) = INTENSITY, SLANT
    standard = (moments(images) - torch.tensor([mean_1, mean_2])) / torch.tensor([deviation_1, deviation_2])
    return Split(images, torch.cat([labels.unsqueeze(-1), standard], dim=-1))


def samples() -> tuple[Split, Split]:
    """The training and the validation split."""
    images, labels = data.training(data.MNIST)
    cut = len(labels) - VALIDATION
    return split_of(images[:cut], labels[:cut]), split_of(images[cut:], labels[cut:])


def held_out() -> Split:
    """The test split."""
    return split_of(*data.test(data.MNIST))


register_setup(
    Setup(
        name="mnist-moments",
        about="MNIST: which digit (10 classes, main), how bright its stroke and how slanted (both regressions)",
        tasks=(classification("digit", 10), regression("intensity"), regression("slant")),
        widths=(784, 512, 256),
        samples=samples,
        test=held_out,
        training_size=55_000,
        dataset=data.MNIST,
        scale=1 / (WHITE * DEVIATION),
        shift=-MEAN / DEVIATION,
    )
)
