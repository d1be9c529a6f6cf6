"""Setups on MNIST-like data sets: which samples are for training, validation and test, and how pixels are scaled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mtlbench.contracts.setup import Setup, Split
from mtlbench.data import datasets
from mtlbench.data.datasets import Dataset, Labelled

TRAINING_SIZE, VALIDATION_SIZE = 55_000, 5_000  # the first and the last of the 60,000 training images
TRAINING, VALIDATION, TEST = range(3)
MEAN, DEVIATION = 0.1307, 0.3081  # of MNIST's training pixels, as a share of 255

Make = Callable[[Labelled, int], Split]
"""Makes a setup's samples from a data set's, for the split TRAINING, VALIDATION or TEST."""


def setup_on(
    dataset: Dataset,
    make: Make,
    *,
    widths: tuple[int, ...] = (784, 512, 256),
    training_size: int = TRAINING_SIZE,
    pixels: tuple[float, float] = (MEAN, DEVIATION),
    **parts: Any,  # noqa: ANN401 - the other parts of a Setup
) -> Setup:
    """A setup on a data set, trained on its first `training_size` images; `pixels` is their mean and deviation."""

    def samples() -> tuple[Split, Split]:
        images, labels = datasets.training(dataset)
        training, validation = slice(training_size), slice(-VALIDATION_SIZE, None)
        return (
            make(Labelled(images[training], labels[training]), TRAINING),
            make(Labelled(images[validation], labels[validation]), VALIDATION),
        )

    def test() -> Split:
        return make(datasets.test(dataset), TEST)

    mean, deviation = pixels
    parts |= {"samples": samples, "test": test, "scale": 1 / (255 * deviation), "shift": -mean / deviation}
    return Setup(widths=widths, training_size=training_size, dataset=dataset, **parts)
