"""The setups that are part of the package: MNIST, its stress variants, Fashion-MNIST, and MultiMNIST."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlbench.contracts.registration import register_setup
from mtlbench.contracts.setup import Setup, Split, Task, binary, classification, scaled
from mtlbench.data.datasets import FASHION_MNIST, Labelled
from mtlbench.data.datasets import MNIST as DIGITS
from mtlbench.setups.multimnist import MULTIMNIST
from mtlbench.setups.on_digits import TRAINING, Make, setup_on

FEW_LABELS, FEW_LABELS_PASSES = 1_000, 20
NOISE = 0.4

PROPERTIES = {
    "above_five": (6, 7, 8, 9),
    "odd": (1, 3, 5, 7, 9),
    "prime": (2, 3, 5, 7),
    "multiple_of_three": (0, 3, 6, 9),
    "power_of_two": (1, 2, 4, 8),
    "fibonacci": (0, 1, 2, 3, 5, 8),
    "has_loop": (0, 6, 8, 9),
}
"""Binary questions about a digit, with the digits for which the answer is yes."""
FOOTWEAR = (5, 7, 9)  # sandal, sneaker, ankle boot


def _is_one_of(labels: Tensor, members: tuple[int, ...]) -> Tensor:
    return torch.isin(labels, torch.tensor(members)).long()


def _split(samples: Labelled, *answers: Tensor) -> Split:
    return Split(samples.images, torch.stack([samples.labels, *answers], dim=-1))


def _with_questions(*questions: tuple[int, ...]) -> Make:
    return lambda samples, split: _split(samples, *(_is_one_of(samples.labels, members) for members in questions))


def _random(split: int, count: int, purpose: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng((purpose, split)).random(count))


def _with_noise(samples: Labelled, split: int) -> Split:
    answers = _is_one_of(samples.labels, PROPERTIES["above_five"])
    if split == TRAINING:
        answers ^= (_random(split, len(answers), purpose=1) < NOISE).long()
    return _split(samples, answers)


def _with_random_auxiliary(samples: Labelled, split: int) -> Split:
    return _split(samples, (_random(split, len(samples.labels), purpose=2) < 0.5).long())


ABOVE_FIVE = _with_questions(PROPERTIES["above_five"])
TASKS = DIGIT, AUXILIARY = classification("digit", 10), binary("above_five")


def _variant(name: str, about: str, tasks: tuple[Task, ...] = TASKS, make: Make = ABOVE_FIVE, **changes: Any) -> Setup:  # noqa: ANN401
    return setup_on(DIGITS, make, name=name, about=about, tasks=tasks, **changes)


MNIST = _variant(
    "mnist", "MNIST: which digit (10 classes, main), is it > 5 (binary, auxiliary); trunk 784-512-256, ReLU"
)

STRESS = (
    _variant(
        "mnist-aux-x100",
        "mnist with the auxiliary loss times 100: a strategy should not care for the unit of a loss",
        (DIGIT, scaled(AUXILIARY, 100)),
    ),
    _variant("mnist-aux-x0.01", "mnist with the auxiliary loss times 0.01", (DIGIT, scaled(AUXILIARY, 0.01))),
    _variant(
        "mnist-aux-noise",
        f"mnist with {NOISE:.0%} of the auxiliary labels flipped in training, at random, the same for all seeds",
        make=_with_noise,
    ),
    _variant(
        "mnist-aux-random",
        "mnist with random auxiliary labels everywhere: an unrelated task that cannot be learned",
        make=_with_random_auxiliary,
    ),
    _variant(
        "mnist-few-labels",
        f"mnist with its first {FEW_LABELS:,} training images; an epoch is {FEW_LABELS_PASSES} passes over them",
        training_size=FEW_LABELS,
        passes=FEW_LABELS_PASSES,
    ),
    _variant("mnist-trunk-32", "mnist with a trunk 784-32: too little room for both tasks", widths=(784, 32)),
    _variant(
        "mnist-8-tasks",
        "which digit (main), and seven binary questions on it: "
        + "; ".join(f"{name} ({', '.join(map(str, members))})" for name, members in PROPERTIES.items()),
        (DIGIT, *map(binary, PROPERTIES)),
        _with_questions(*PROPERTIES.values()),
    ),
    setup_on(
        FASHION_MNIST,
        _with_questions(FOOTWEAR),
        name="fashion-mnist",
        about="Fashion-MNIST: which class (10, main), is it footwear (sandal, sneaker, ankle boot; auxiliary)",
        tasks=(classification("class", 10), binary("footwear")),
        pixels=(0.2860, 0.3530),
    ),
)
"""Each isolates one thing that a weighting should cope with."""

SETUPS = {setup.name: setup for setup in (MNIST, *STRESS, MULTIMNIST)}
"""The setups that are part of the package, by name."""


def register_built_in() -> None:
    """Register all of `SETUPS`."""
    for setup in SETUPS.values():
        register_setup(setup)
