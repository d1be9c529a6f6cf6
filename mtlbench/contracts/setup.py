"""What a strategy is tried on: tasks, their data, and the network that learns them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from mtlbench.contracts.convolutions import Convolutions
from mtlbench.contracts.metrics import Better
from mtlbench.data.datasets import Dataset


@dataclass(frozen=True)
class Task:
    """One loss and one metric on its own output columns; all are means over the batch, one per replica.

    `loss(outputs [K, B, columns], targets [K, B]) -> [K]`, `score` likewise. `metric` names the score and `better` says
    which way of it is better; `accuracy` and `error` are shares of 1 and shown in per cent, any other as it is.
    Targets are whole numbers in [0, classes), or any finite number where `classes` is None.
    """

    name: str
    columns: int
    metric: str
    better: Better
    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], Tensor]
    classes: int | None = None


def classification(name: str, classes: int) -> Task:
    """A task with integer targets in [0, classes): cross-entropy, scored by accuracy."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        each = F.cross_entropy(outputs.flatten(0, 1), targets.flatten().long(), reduction="none")
        return each.view(targets.shape).mean(-1)

    def score(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(-1) == targets).to(outputs.dtype).mean(-1)

    return Task(name, classes, "accuracy", "higher", loss, score, classes)


def binary(name: str) -> Task:
    """A task with targets 0 or 1 and one logit: binary cross-entropy, scored by error."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        logits = outputs.squeeze(-1)
        each = F.binary_cross_entropy_with_logits(logits, targets.to(outputs.dtype), reduction="none")
        return each.mean(-1)

    def score(outputs: Tensor, targets: Tensor) -> Tensor:
        return ((outputs.squeeze(-1) > 0) != (targets > 0)).to(outputs.dtype).mean(-1)

    return Task(name, 1, "error", "lower", loss, score, classes=2)


def regression(name: str) -> Task:
    """A task with real targets and one output: mean squared error, both loss and score."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.squeeze(-1) - targets.to(outputs.dtype)).square().mean(-1)

    return Task(name, 1, "squared error", "lower", loss, loss)


def scaled(task: Task, factor: float) -> Task:
    """The same task with its loss multiplied by a constant; the score stays."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return factor * task.loss(outputs, targets)

    return replace(task, loss=loss)


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

    `widths` are the features of the input and of each linear trunk layer; where `convolutions` come before those, it
    begins with the features that they leave. An input value v is seen by the network as `v * scale + shift`, computed
    after the batch has been gathered. `samples()` gives the training and the validation split, `test()` the test split;
    each is called at most once a run. An epoch is `passes` passes over the training split of `training_size` samples.
    `dataset` is what must be in the cache before.

    Raises:
        ValueError: the first width is not what the convolutions leave.
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
    passes: int = 1
    dataset: Dataset | None = None
    convolutions: Convolutions | None = None

    def __post_init__(self) -> None:
        given = cast("object", self.convolutions)  # a plugin is not type-checked
        left = given.features if isinstance(given, Convolutions) else None
        if left is not None and self.widths[:1] != (left,):
            raise ValueError(f"{self.name}: the convolutions leave {left} features, but widths are {self.widths}")

    @property
    def features(self) -> int:
        """F, the values of one sample."""
        return self.convolutions.inputs if self.convolutions else self.widths[0]

    @property
    def multiply_adds(self) -> int:
        """Those of one sample in the forward pass."""
        ends = [*self.widths, sum(task.columns for task in self.tasks)]
        dense = sum(into * out for into, out in itertools.pairwise(ends))
        return dense + (self.convolutions.multiply_adds if self.convolutions else 0)

    @property
    def task_names(self) -> list[str]:
        """Names of the tasks, the main one first."""
        return [task.name for task in self.tasks]
