"""Setups: tasks, their data, and the network that learns them."""

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
    """One loss and one metric, computed from output columns that belong to this task alone.

    `loss(outputs [K, B, columns], targets [K, B]) -> [K]` and `score`, of the same shapes, are means over the batch,
    one per replica. `metric` names the score, and `better` is its better direction. `accuracy` and `error` are shares
    of 1 and shown in per cent, others as they are. Targets are whole numbers in [0, classes), or any finite numbers if
    `classes` is None.
    """

    name: str
    columns: int
    metric: str
    better: Better
    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], Tensor]
    classes: int | None = None


def classification(name: str, classes: int) -> Task:
    """A task with integer targets in [0, classes), trained with cross-entropy and scored by accuracy."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        each = F.cross_entropy(outputs.flatten(0, 1), targets.flatten().long(), reduction="none")
        return each.view(targets.shape).mean(-1)

    def score(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(-1) == targets).to(outputs.dtype).mean(-1)

    return Task(name, classes, "accuracy", "higher", loss, score, classes)


def binary(name: str) -> Task:
    """A task with targets 0 or 1 and one logit, trained with binary cross-entropy and scored by error."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        logits = outputs.squeeze(-1)
        each = F.binary_cross_entropy_with_logits(logits, targets.to(outputs.dtype), reduction="none")
        return each.mean(-1)

    def score(outputs: Tensor, targets: Tensor) -> Tensor:
        return ((outputs.squeeze(-1) > 0) != (targets > 0)).to(outputs.dtype).mean(-1)

    return Task(name, 1, "error", "lower", loss, score, classes=2)


def regression(name: str) -> Task:
    """A task with real targets and one output, trained with and scored by the mean squared error."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.squeeze(-1) - targets.to(outputs.dtype)).square().mean(-1)

    return Task(name, 1, "squared error", "lower", loss, loss)


def scaled(task: Task, factor: float) -> Task:
    """A copy of a task with its loss multiplied by a constant and its score unchanged."""

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return factor * task.loss(outputs, targets)

    return replace(task, loss=loss)


@dataclass(frozen=True)
class Split:
    """Samples for training, validation or test: `inputs` `[N, F]`, uint8 or float, and `targets` `[N, T]`."""

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

    `widths` are the features of the input and of each linear layer of the trunk; after `convolutions`, they begin with
    the features that those put out. The network is given `value * scale + shift` for each input value, computed once
    the batch is gathered. `samples()` returns the training and the validation split, `test()` the test split; a run
    calls each at most once. An epoch is `passes` passes over the `training_size` samples of the training split.
    `dataset` is fetched into the cache before a run.

    Raises:
        ValueError: the first width is not the number of features that the convolutions put out.
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
        convolutions = cast("object", self.convolutions)  # a plug-in is not type-checked
        if isinstance(convolutions, Convolutions) and self.widths[:1] != (convolutions.features,):
            raise ValueError(
                f"{self.name}: widths must begin with the {convolutions.features} features of the convolutions; "
                f"found {self.widths}"
            )

    @property
    def features(self) -> int:
        """F, the number of values in one sample."""
        return self.convolutions.inputs if self.convolutions else self.widths[0]

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one sample's forward pass."""
        return self.dense_weights + (self.convolutions.multiply_adds if self.convolutions else 0)

    @property
    def dense_weights(self) -> int:
        """Number of weights of the linear layers, heads included."""
        ends = [*self.widths, sum(task.columns for task in self.tasks)]
        return sum(into * out for into, out in itertools.pairwise(ends))

    @property
    def task_names(self) -> list[str]:
        """Names of the tasks, the main one first."""
        return [task.name for task in self.tasks]
