"""The role of a run and the run that it is compared with, both determined by its label."""

from __future__ import annotations

from typing import Literal

FIRST_TUNING_SEED = 2**62
"""Seeds from here on are reserved for tuning, so settings are never judged by the seeds that they were chosen on."""

REFERENCE = "fixed"  # equal weights, which all other strategies are compared with

Role = Literal["strategy", "tuned", "front", "single"]
SINGLE, TUNED, FRONT = "single", "tuned", "front"
"""Prefixes of labels: a task trained alone; a strategy with tuned settings; fixed weights by the main task's share."""
ALL_TASKS = "all tasks"
"""The name under which Delta-m is listed among the tasks."""


def tuning_seeds(count: int) -> tuple[int, ...]:
    """The seeds of tuning trials."""
    return tuple(range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + count))


def role_of(label: str) -> Role:
    """The role of the run with a label."""
    prefix = label.partition(":")[0]
    return prefix if prefix in (SINGLE, TUNED, FRONT) else "strategy"


def reference_of(label: str) -> str:
    """The label that a run is compared with: tuned fixed weights for a tuned strategy, equal weights for others."""
    return f"{TUNED}:{REFERENCE}" if role_of(label) == TUNED and label != f"{TUNED}:{REFERENCE}" else REFERENCE
