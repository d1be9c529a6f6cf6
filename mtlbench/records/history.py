"""What training leaves, and whether the numbers of it fit each other: what was stored may have been edited by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Matrix = list[list[float]]
LARGEST = 2.0**128  # float32 holds no finite number beyond it


@dataclass(frozen=True)
class Evaluation:
    """Losses and scores per seed and task, `[K][T]` each."""

    losses: Matrix
    scores: Matrix


@dataclass(frozen=True)
class Trajectory:
    """Means over equal stretches of training; `epochs[p]` is the end of stretch p, in epochs.

    `losses` and `weights` are `[P][K][T]`; `norms` of the task gradients likewise and their `cosines`
    `[P][K][pairs]` exist where the strategy asked for a Gramian.
    """

    epochs: list[float]
    losses: list[Matrix]
    weights: list[Matrix]
    norms: list[Matrix] | None
    cosines: list[Matrix] | None


@dataclass(frozen=True)
class History:
    """What is recorded of training, up to the end of an epoch: per-epoch validation and the trajectory.

    `diverged` has, per seed, the number of updates before the first step with a loss or weight that is not finite.
    `training_seconds` are those spent in training steps.
    """

    validation: list[Evaluation]
    trajectory: Trajectory
    diverged: list[int | None]
    training_seconds: float


@dataclass(frozen=True)
class Result(History):
    """What a run leaves: its history, and losses and scores of the test split."""

    test: Evaluation


def check_result(result: Result, replicas: int, tasks: int) -> None:
    """Of a run's result for K seeds and T tasks.

    Raises:
        ValueError: something is missing or too much; says what.
    """
    if not result.validation:
        raise ValueError("validation must have an epoch")
    for evaluation in (*result.validation, result.test):
        check_evaluation(evaluation, replicas, tasks)
    path = result.trajectory
    points = len(path.epochs)
    for name, rows, last in (
        ("losses", path.losses, tasks),
        ("weights", path.weights, tasks),
        ("norms", path.norms, tasks),
        ("cosines", path.cosines, tasks * (tasks - 1) // 2),
    ):
        if rows is not None:
            _check(f"trajectory.{name}", rows, points, replicas, last)
    _check("diverged", result.diverged, replicas)


def check_evaluation(evaluation: Evaluation, replicas: int, tasks: int) -> None:
    """Of losses and scores for K seeds and T tasks.

    Raises:
        ValueError: likewise.
    """
    _check("losses", evaluation.losses, replicas, tasks)
    _check("scores", evaluation.scores, replicas, tasks)


def _check(name: str, values: Sequence[object], *sizes: int) -> None:
    size, *rest = sizes
    if len(values) != size:
        raise ValueError(f"{name} must have {size} values each, not {len(values)}")
    for value in values:
        if isinstance(value, list):
            _check(name, value, *rest)
        elif isinstance(value, float) and LARGEST < abs(value) < math.inf:
            raise ValueError(f"{name} has {value}, which no training in float32 leaves")
