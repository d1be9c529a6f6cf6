"""Stored runs that look wrong."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from mtlbench.records.history import Result
from mtlbench.records.records import RunRecord


def identical_runs(runs: Sequence[RunRecord]) -> list[str]:
    """A line for each pair of strategies whose losses and scores are the same number for number."""

    def numbers(result: Result) -> tuple[object, ...]:
        return result.test, result.validation, result.trajectory.losses

    return [
        f"{one.spec.label} and {other.spec.label} gave identical numbers for every seed: "
        f"does one of them silently fall back to the other's weights?"
        for one, other in combinations(runs, 2)
        if one.scored and other.scored and numbers(one.scored) == numbers(other.scored)
    ]
