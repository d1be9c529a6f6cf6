"""MultiMNIST against a construction pixel by pixel, and the pairs within its splits."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mtlbench import data
from mtlbench.contracts.setup import Split
from mtlbench.data import Labelled
from mtlbench.setups.multimnist import MULTIMNIST, overlaid, paired, pairs
from mtlbench.setups.on_digits import TEST, TRAINING, VALIDATION, VALIDATION_SIZE

SIZES = {TRAINING: 55_000, VALIDATION: VALIDATION_SIZE, TEST: 10_000}
LOOKED_AT = 40


@pytest.fixture(scope="module")
def digits() -> dict[int, Labelled]:
    """What each split is made of."""
    data.fetch(data.MNIST, print)
    images, labels = data.training(data.MNIST)
    return {
        TRAINING: Labelled(images[:-VALIDATION_SIZE], labels[:-VALIDATION_SIZE]),
        VALIDATION: Labelled(images[-VALIDATION_SIZE:], labels[-VALIDATION_SIZE:]),
        TEST: data.test(data.MNIST),
    }


@pytest.fixture(scope="module")
def splits(digits: dict[int, Labelled]) -> dict[int, Split]:
    training, validation = MULTIMNIST.samples()
    return {TRAINING: training, VALIDATION: validation, TEST: MULTIMNIST.test()}


def pixel_by_pixel(left: Tensor, right: Tensor) -> Tensor:
    """Both digits on 36 x 36 pixels, made 28 x 28 by Pillow's nearest pixel, which the source's code comes down to."""
    canvas = np.zeros((36, 36), dtype=np.uint8)
    for row in range(28):
        for column in range(28):
            canvas[row, column] = max(canvas[row, column], int(left[28 * row + column]))
            under = canvas[row + 6, column + 6]
            canvas[row + 6, column + 6] = max(under, int(right[28 * row + column]))
    return torch.from_numpy(np.array(Image.fromarray(canvas).resize((28, 28), Image.Resampling.NEAREST))).flatten()


@pytest.mark.parametrize("split", SIZES)
def test_each_image_shows_its_left_digit_and_its_partner(
    digits: dict[int, Labelled], splits: dict[int, Split], split: int
) -> None:
    images, labels = digits[split]
    partners = pairs(len(images), split)
    for i in range(0, len(images), len(images) // LOOKED_AT):
        found = pixel_by_pixel(images[i], images[partners[i]])
        assert torch.equal(splits[split].inputs[i], found)
        assert splits[split].targets[i].tolist() == [int(labels[i]), int(labels[partners[i]])]


@pytest.mark.parametrize("split", SIZES)
def test_a_split_pairs_its_images_among_themselves(
    digits: dict[int, Labelled], splits: dict[int, Split], split: int
) -> None:
    size, made = SIZES[split], splits[split]
    assert made.inputs.shape == (size, 784)
    assert made.inputs.dtype == torch.uint8
    assert torch.equal(made.targets[:, 0], digits[split].labels)
    partners = pairs(size, split)
    assert int(partners.min()) >= 0
    assert int(partners.max()) < size
    drawn = len(partners.unique()) / size
    assert drawn == pytest.approx(1 - np.exp(-1), abs=4 / size**0.5)
    right = made.targets[:, 1].bincount(minlength=10) / size
    assert torch.allclose(right, digits[split].labels.bincount() / size, atol=4 * (0.09 / size) ** 0.5)


def test_pairs_of_different_splits_are_independent() -> None:
    first = [pairs(VALIDATION_SIZE, split) for split in SIZES]
    assert all((one != other).double().mean() > 0.99 for one, other in pairwise(first))


def test_making_it_again_gives_the_same(digits: dict[int, Labelled], splits: dict[int, Split]) -> None:
    again = paired(digits[VALIDATION], VALIDATION)
    assert torch.equal(again.inputs, splits[VALIDATION].inputs)
    assert torch.equal(again.targets, splits[VALIDATION].targets)


def test_neither_digit_is_cut_where_the_other_is_blank(digits: dict[int, Labelled]) -> None:
    """The nearest pixels leave out one row and column in four or five, and no digit as a whole."""
    images = digits[VALIDATION].images[:200]
    blank = torch.zeros_like(images)
    left, right = overlaid(images, blank), overlaid(blank, images)
    assert torch.equal(overlaid(images, images), torch.maximum(left, right))
    for alone in (left, right):
        kept = alone.double().sum(1) / images.double().sum(1)
        assert float(kept.min()) > 0.4
        assert float(kept.mean()) == pytest.approx((28 / 36) ** 2, abs=0.02)
