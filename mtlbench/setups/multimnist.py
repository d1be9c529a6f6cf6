"""MultiMNIST: two MNIST digits in one image, one at the top left and one at the bottom right.

Source: Sener & Koltun, "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018, after Sabour, Frosst &
Hinton, "Dynamic Routing Between Capsules", NeurIPS 2017. As in the former's code (multi_mnist_loader.py of
isl-org/MultiObjectiveOptimization), both digits are placed on 36 x 36 pixels, the second one 6 further down and 6
further to the right. Where they overlap, the brighter pixel is kept, and the result is reduced to 28 x 28 by taking the
nearest pixels. Each image of a split is the left digit once; its right digit is drawn uniformly from the same split.

Their code draws new pairs whenever the data set is made, pairs all 60,000 training images with each other, and
stretches each image's brightest pixel to 255. Here the pairs are fixed by a seed, the last 5,000 training images are
paired among themselves for validation, and pixels are not stretched.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mtlbench.contracts.convolutions import Conv, Convolutions
from mtlbench.contracts.setup import Split, classification
from mtlbench.data.datasets import MNIST, Labelled
from mtlbench.setups.on_digits import setup_on

DIGIT_SIDE, OFFSET, CANVAS_SIDE, SIDE = 28, 6, 36, 28
CHUNK = 1_000

KEPT = [(2 * i + 1) * CANVAS_SIDE // (2 * SIDE) for i in range(SIDE)]
"""Rows and columns of the canvas that are kept: those that contain the centres of the smaller image's pixels."""


def pairs(size: int, split: int) -> Tensor:
    """Index of the right digit for each left digit of a split, int64 `[size]`."""
    return torch.from_numpy(np.random.default_rng((3, split)).integers(size, size=size))


def overlaid(left: Tensor, right: Tensor) -> Tensor:
    """Images of two digits from images of one digit each; all are uint8 `[N, 784]`."""
    canvas = left.new_zeros(len(left), CANVAS_SIDE, CANVAS_SIDE)
    canvas[:, :DIGIT_SIDE, :DIGIT_SIDE] = left.view(-1, DIGIT_SIDE, DIGIT_SIDE)
    under = canvas[:, OFFSET : OFFSET + DIGIT_SIDE, OFFSET : OFFSET + DIGIT_SIDE]
    torch.maximum(under, right.view(-1, DIGIT_SIDE, DIGIT_SIDE), out=under)
    return canvas[:, KEPT][:, :, KEPT].flatten(1)


def paired(digits: Labelled, split: int) -> Split:
    """A split of two-digit images with the labels of both digits, made from one split of MNIST."""
    partners = pairs(len(digits.labels), split)
    parts = zip(digits.images.split(CHUNK), partners.split(CHUNK), strict=True)
    inputs = torch.cat([overlaid(left, digits.images[right]) for left, right in parts])
    return Split(inputs, torch.stack([digits.labels, digits.labels[partners]], dim=-1))


LENET = Convolutions((1, SIDE, SIDE), (Conv(10, kernel=5, pool=2), Conv(20, kernel=5, pool=2)))

MULTIMNIST = setup_on(
    MNIST,
    paired,
    name="multimnist",
    about="MultiMNIST: two overlapping digits, which is at the top left (10 classes, main), which at the bottom right "
    "(10 classes); trunk of LeNet: 10 and 20 convolutions of 5x5, each with 2x2 pooling, then 320-50, ReLU",
    tasks=(classification("left", 10), classification("right", 10)),
    widths=(LENET.features, 50),
    convolutions=LENET,
)
