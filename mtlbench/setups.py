"""What a strategy is tried on: tasks, data and the shape of the network, under a name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mtlbench import data
from mtlbench.errors import UserError


@dataclass(frozen=True)
class Task:
    """One loss and one metric on its own output columns; all are means over the batch, one per replica.

    `loss(outputs [K, B, columns], targets [K, B]) -> [K]`, `score` likewise; `metric` names the score
    (`accuracy` or `error`, as a share; or `squared error`).
    """

    name: str
    columns: int
    metric: str
    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], Tensor]


def classification(name: str, classes: int) -> Task:
    """A task with integer targets in [0, classes): cross-entropy, scored by accuracy."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        each = F.cross_entropy(outputs.flatten(0, 1), targets.flatten().long(), reduction="none")
        return each.view(targets.shape).mean(-1)

    def score(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(-1) == targets).to(outputs.dtype).mean(-1)

    return Task(name, classes, "accuracy", loss, score)


def binary(name: str) -> Task:
    """A task with targets 0 or 1 and one logit: binary cross-entropy, scored by error."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        logits = outputs.squeeze(-1)
        each = F.binary_cross_entropy_with_logits(logits, targets.to(outputs.dtype), reduction="none")
        return each.mean(-1)

    def score(outputs: Tensor, targets: Tensor) -> Tensor:
        return ((outputs.squeeze(-1) > 0) != (targets > 0)).to(outputs.dtype).mean(-1)

    return Task(name, 1, "error", loss, score)


def regression(name: str) -> Task:
    """A task with real targets and one output: mean squared error, both loss and score."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.squeeze(-1) - targets).square().mean(-1)

    return Task(name, 1, "squared error", loss, loss)


@dataclass(frozen=True)
class Split:
    """Samples of one purpose: `inputs` `[N, F]`, uint8 or float, and `targets` `[N, T]`."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def to(self, device: torch.device | str) -> Split:
        """The same samples on another device."""
        return Split(self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Setup:
    """Tasks, network and data under one name; the first task is the main one.

    `widths` are the features of the input and of each trunk layer. An input value v is seen by the network
    as `v * scale + shift`, computed after the batch has been gathered. `samples()` gives the training and the
    validation split, `test()` the test split; each is called at most once a run.
    """

    name: str
    about: str
    tasks: tuple[Task, ...]
    widths: tuple[int, ...]
    samples: Callable[[], tuple[Split, Split]]
    test: Callable[[], Split]
    training_size: int
    scale: float = 1.0
    shift: float = 0.0

    @property
    def task_names(self) -> list[str]:
        """Names of the tasks, the main one first."""
        return [task.name for task in self.tasks]


VALIDATION_SIZE = 5_000
FEW_LABELS = 1_000
MEAN, STD = 0.1307, 0.3081  # of MNIST's training pixels, as a share of 255


def _digit_targets(labels: Tensor) -> Tensor:
    return torch.stack([labels, (labels > 5).long()], dim=-1)


def _mnist_samples() -> tuple[Split, Split]:
    mnist = data.load()
    whole = Split(mnist.train_images, _digit_targets(mnist.train_labels))
    cut = len(whole) - VALIDATION_SIZE
    return Split(whole.inputs[:cut], whole.targets[:cut]), Split(whole.inputs[cut:], whole.targets[cut:])


def _few_labels_samples() -> tuple[Split, Split]:
    training, validation = _mnist_samples()
    return Split(training.inputs[:FEW_LABELS], training.targets[:FEW_LABELS]), validation


def _mnist_test() -> Split:
    mnist = data.load()
    return Split(mnist.test_images, _digit_targets(mnist.test_labels))


MNIST = Setup(
    name="mnist",
    about="MNIST: which digit (10 classes, main), is it > 5 (binary, auxiliary); trunk 784-512-256, ReLU",
    tasks=(classification("digit", 10), binary("above_five")),
    widths=(784, 512, 256),
    samples=_mnist_samples,
    test=_mnist_test,
    training_size=55_000,
    scale=1 / (255 * STD),
    shift=-MEAN / STD,
)

MNIST_FEW_LABELS = replace(
    MNIST,
    name="mnist-few-labels",
    about=f"as mnist, with the first {FEW_LABELS:,} training images only",
    samples=_few_labels_samples,
    training_size=FEW_LABELS,
)

SETUPS = {setup.name: setup for setup in (MNIST, MNIST_FEW_LABELS)}


def find(name: str) -> Setup:
    """The setup of that name.

    Raises:
        UserError: there is none; lists the close ones.
    """
    if name not in SETUPS:
        close = difflib.get_close_matches(name, SETUPS) or list(SETUPS)
        raise UserError(f"no setup is called {name!r}; there is {', '.join(close)}")
    return SETUPS[name]
