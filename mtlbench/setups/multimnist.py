"""MultiMNIST: two digits of MNIST in one image, one at the top left and one at the bottom right.

Source: Sener & Koltun, "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018, after Sabour, Frosst &
Hinton, "Dynamic Routing Between Capsules", NeurIPS 2017. As in the code of the former (multi_mnist_loader.py of
isl-org/MultiObjectiveOptimization), both digits are laid on 36 x 36 pixels, the second one 6 further down and 6 further
to the right; of both the brighter pixel is kept, and the whole is made 28 x 28 by taking the nearest pixels. Each image
of a split is a left digit once; its right one is drawn uniformly from the same split.

Theirs draws anew whenever the data set is made, pairs all 60,000 training images with each other, and stretches each
image's brightest pixel to 255. Here the pairs are fixed by a seed, the last 5,000 training images are paired among
themselves for validation, and pixels stay as they are.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mtlbench.contracts.convolutions import Conv, Convolutions
from mtlbench.contracts.setup import Setup, Split, classification
from mtlbench.data import datasets
from mtlbench.data.datasets import Labelled

VALIDATION_SIZE = 5_000
TRAINING, VALIDATION, TEST = range(3)
DIGIT_SIDE, OFFSET, CANVAS_SIDE, SIDE = 28, 6, 36, 28
CHUNK = 1_000

KEPT = [(2 * i + 1) * CANVAS_SIDE // (2 * SIDE) for i in range(SIDE)]
"""Rows and columns of the canvas that are left: those that the centres of the smaller image's pixels lie in."""


def pairs(size: int, split: int) -> Tensor:
    """For each image of a split, as left digit, the place of its right one, int64 `[size]`."""
    return torch.from_numpy(np.random.default_rng((3, split)).integers(size, size=size))


def overlaid(left: Tensor, right: Tensor) -> Tensor:
    """Images of two digits, `[N, 784]`, from those of one digit each, `[N, 784]`, all uint8."""
    canvas = left.new_zeros(len(left), CANVAS_SIDE, CANVAS_SIDE)
    canvas[:, :DIGIT_SIDE, :DIGIT_SIDE] = left.view(-1, DIGIT_SIDE, DIGIT_SIDE)
    under = canvas[:, OFFSET : OFFSET + DIGIT_SIDE, OFFSET : OFFSET + DIGIT_SIDE]
    torch.maximum(under, right.view(-1, DIGIT_SIDE, DIGIT_SIDE), out=under)
    return canvas[:, KEPT][:, :, KEPT].flatten(1)


def paired(digits: Labelled, split: int) -> Split:
    """A split of two-digit images and the labels of both digits, made of the samples of one split of MNIST."""
    partners = pairs(len(digits.labels), split)
    parts = zip(digits.images.split(CHUNK), partners.split(CHUNK), strict=True)
    inputs = torch.cat([overlaid(left, digits.images[right]) for left, right in parts])
    return Split(inputs, torch.stack([digits.labels, digits.labels[partners]], dim=-1))


def _samples() -> tuple[Split, Split]:
    images, labels = datasets.training(datasets.MNIST)
    cut = len(labels) - VALIDATION_SIZE
    return (
        paired(Labelled(images[:cut], labels[:cut]), TRAINING),
        paired(Labelled(images[cut:], labels[cut:]), VALIDATION),
    )


def _test() -> Split:
    return paired(datasets.test(datasets.MNIST), TEST)


LENET = Convolutions((1, SIDE, SIDE), (Conv(10, kernel=5, pool=2), Conv(20, kernel=5, pool=2)))

MULTIMNIST = Setup(
    name="multimnist",
    about="MultiMNIST: two overlapping digits, which is at the top left (10 classes, main), which at the bottom right "
    "(10 classes); trunk of LeNet: 10 and 20 convolutions of 5x5, each with 2x2 pooling, then 320-50, ReLU",
    tasks=(classification("left", 10), classification("right", 10)),
    widths=(LENET.features, 50),
    samples=_samples,
    test=_test,
    training_size=55_000,
    dataset=datasets.MNIST,
    scale=1 / (255 * 0.3081),
    shift=-0.1307 / 0.3081,
    convolutions=LENET,
)
