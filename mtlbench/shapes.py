"""Whether the numbers of a stored record fit each other: what was edited by hand may not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mtlbench.records import Evaluation, Result

LARGEST = 2.0**128  # float32 holds no finite number beyond it


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
