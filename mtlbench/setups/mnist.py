"""The setups that come with mtlbench: MNIST, its stress variants, Fashion-MNIST, and MultiMNIST."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mtlbench.contracts.registration import register_setup
from mtlbench.contracts.setup import Setup, Split, binary, classification, scaled
from mtlbench.data import datasets
from mtlbench.data.datasets import Dataset
from mtlbench.setups.multimnist import MULTIMNIST

VALIDATION_SIZE = 5_000
FEW_LABELS, FEW_LABELS_PASSES = 1_000, 20
NOISE = 0.4
TRAINING, VALIDATION, TEST = range(3)

Relabel = Callable[[Tensor, int], Tensor]
"""Targets `[N, T]` of labels `[N]`, for the split TRAINING, VALIDATION or TEST."""

PROPERTIES = {
    "above_five": (6, 7, 8, 9),
    "odd": (1, 3, 5, 7, 9),
    "prime": (2, 3, 5, 7),
    "multiple_of_three": (0, 3, 6, 9),
    "power_of_two": (1, 2, 4, 8),
    "fibonacci": (0, 1, 2, 3, 5, 8),
    "has_loop": (0, 6, 8, 9),
}
"""Binary questions on a digit, with the digits for which the answer is yes."""
FOOTWEAR = (5, 7, 9)  # sandal, sneaker, ankle boot


def _belongs(labels: Tensor, members: tuple[int, ...]) -> Tensor:
    return torch.isin(labels, torch.tensor(members)).long()


def _label_and(*members: tuple[int, ...]) -> Relabel:
    return lambda labels, split: torch.stack([labels, *(_belongs(labels, each) for each in members)], dim=-1)


_digit_and_above_five = _label_and(PROPERTIES["above_five"])


def _random(split: int, count: int, purpose: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng((purpose, split)).random(count))


def _with_noise(labels: Tensor, split: int) -> Tensor:
    targets = _digit_and_above_five(labels, split)
    if split == TRAINING:
        targets[:, 1] ^= (_random(split, len(labels), purpose=1) < NOISE).long()
    return targets


def _with_random_auxiliary(labels: Tensor, split: int) -> Tensor:
    return torch.stack([labels, (_random(split, len(labels), purpose=2) < 0.5).long()], dim=-1)


def _splits(dataset: Dataset, relabel: Relabel, size: int | None = None) -> Callable[[], tuple[Split, Split]]:
    """The training split (its first `size` samples, if given) and the validation split, cut off its end."""

    def samples() -> tuple[Split, Split]:
        images, labels = datasets.training(dataset)
        cut = len(labels) - VALIDATION_SIZE
        kept = slice(cut if size is None else size)
        held_out = slice(cut, None)
        return (
            Split(images[kept], relabel(labels[kept], TRAINING)),
            Split(images[held_out], relabel(labels[held_out], VALIDATION)),
        )

    return samples


def _test(dataset: Dataset, relabel: Relabel) -> Callable[[], Split]:
    def samples() -> Split:
        images, labels = datasets.test(dataset)
        return Split(images, relabel(labels, TEST))

    return samples


def _variant(name: str, about: str, relabel: Relabel = _digit_and_above_five, **changes: object) -> Setup:
    """MNIST with one thing changed."""
    read = {"samples": _splits(datasets.MNIST, relabel), "test": _test(datasets.MNIST, relabel)}
    return replace(MNIST, name=name, about=about, **(read | changes))


MEAN, DEVIATION = 0.1307, 0.3081  # of MNIST's training pixels, as a share of 255
FASHION_MEAN, FASHION_DEVIATION = 0.2860, 0.3530


DIGIT, ABOVE_FIVE = classification("digit", 10), binary("above_five")

MNIST = Setup(
    name="mnist",
    about="MNIST: which digit (10 classes, main), is it > 5 (binary, auxiliary); trunk 784-512-256, ReLU",
    tasks=(DIGIT, ABOVE_FIVE),
    widths=(784, 512, 256),
    samples=_splits(datasets.MNIST, _digit_and_above_five),
    test=_test(datasets.MNIST, _digit_and_above_five),
    training_size=55_000,
    dataset=datasets.MNIST,
    scale=1 / (255 * DEVIATION),
    shift=-MEAN / DEVIATION,
)

STRESS = (
    _variant(
        "mnist-aux-x100",
        "mnist with the auxiliary loss times 100: a strategy should not care for the unit of a loss",
        tasks=(DIGIT, scaled(ABOVE_FIVE, 100)),
    ),
    _variant(
        "mnist-aux-x0.01",
        "mnist with the auxiliary loss times 0.01",
        tasks=(DIGIT, scaled(ABOVE_FIVE, 0.01)),
    ),
    _variant(
        "mnist-aux-noise",
        f"mnist with {NOISE:.0%} of the auxiliary labels flipped in training, at random, the same for all seeds",
        _with_noise,
    ),
    _variant(
        "mnist-aux-random",
        "mnist with random auxiliary labels everywhere: an unrelated task that cannot be learned",
        _with_random_auxiliary,
    ),
    _variant(
        "mnist-few-labels",
        f"mnist with its first {FEW_LABELS:,} training images; an epoch is {FEW_LABELS_PASSES} passes over them",
        samples=_splits(datasets.MNIST, _digit_and_above_five, FEW_LABELS),
        training_size=FEW_LABELS,
        passes=FEW_LABELS_PASSES,
    ),
    _variant("mnist-trunk-32", "mnist with a trunk 784-32: too little room for both tasks", widths=(784, 32)),
    _variant(
        "mnist-8-tasks",
        "which digit (main), and seven binary questions on it: "
        + "; ".join(f"{name} ({', '.join(map(str, members))})" for name, members in PROPERTIES.items()),
        _label_and(*PROPERTIES.values()),
        tasks=(DIGIT, *(binary(name) for name in PROPERTIES)),
    ),
    replace(
        MNIST,
        name="fashion-mnist",
        about="Fashion-MNIST: which class (10, main), is it footwear (sandal, sneaker, ankle boot; auxiliary)",
        tasks=(classification("class", 10), binary("footwear")),
        samples=_splits(datasets.FASHION_MNIST, _label_and(FOOTWEAR)),
        test=_test(datasets.FASHION_MNIST, _label_and(FOOTWEAR)),
        dataset=datasets.FASHION_MNIST,
        scale=1 / (255 * FASHION_DEVIATION),
        shift=-FASHION_MEAN / FASHION_DEVIATION,
    ),
)
"""Each isolates one thing that a weighting should cope with."""

SETUPS = {setup.name: register_setup(setup) for setup in (MNIST, *STRESS, MULTIMNIST)}
