"""The recorded history and results of training, with checks, since stored files may have been edited by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Matrix = list[list[float]]
LARGEST = 2.0**128  # every finite float32 is smaller


@dataclass(frozen=True)
class Evaluation:
    """Losses and scores per seed and task, `[K][T]` each."""

    losses: Matrix
    scores: Matrix


@dataclass(frozen=True)
class Trajectory:
    """Means over P equal stretches of training; `epochs[p]` is the end of stretch p, in epochs.

    `losses` and `weights` are `[P][K][T]`. The `norms` `[P][K][T]` and `cosines` `[P][K][pairs]` of the task gradients
    exist if the strategy uses a Gramian.
    """

    epochs: list[float]
    losses: list[Matrix]
    weights: list[Matrix]
    norms: list[Matrix] | None
    cosines: list[Matrix] | None


@dataclass(frozen=True)
class History:
    """Validation after each epoch, and the trajectory, up to the end of some epoch.

    `diverged` holds, per seed, the number of updates before the first step with a loss or weight that is not finite.
    `training_seconds` is the time spent in training steps.
    """

    validation: list[Evaluation]
    trajectory: Trajectory
    diverged: list[int | None]
    training_seconds: float


@dataclass(frozen=True)
class Result(History):
    """The history of a complete run, with losses and scores on the test split."""

    test: Evaluation


def check_result(result: Result, replicas: int, tasks: int) -> None:
    """Check that a result fits K seeds and T tasks.

    Raises:
        ValueError: a list has another length, or a number cannot be a float32.
    """
    if not result.validation:
        raise ValueError("validation must have at least one epoch")
    for evaluation in (*result.validation, result.test):
        check_evaluation(evaluation, replicas, tasks)
    path = result.trajectory
    columns = {"losses": tasks, "weights": tasks, "norms": tasks, "cosines": tasks * (tasks - 1) // 2}
    for name, count in columns.items():
        if (rows := getattr(path, name)) is not None:
            _check(f"trajectory.{name}", rows, len(path.epochs), replicas, count)
    _check("diverged", result.diverged, replicas)


def check_evaluation(evaluation: Evaluation, replicas: int, tasks: int) -> None:
    """Check that losses and scores fit K seeds and T tasks; raises as `check_result`."""
    _check("losses", evaluation.losses, replicas, tasks)
    _check("scores", evaluation.scores, replicas, tasks)


def _check(name: str, values: Sequence[object], *sizes: int) -> None:
    size, *rest = sizes
    if len(values) != size:
        raise ValueError(f"{name} must have {size} values; found {len(values)}")
    for value in values:
        if isinstance(value, list):
            _check(name, value, *rest)
        elif isinstance(value, float) and LARGEST < abs(value) < math.inf:
            raise ValueError(f"{name} must fit into float32; found {value}")
