"""What a run is for, by its label, and what it is compared with."""

from __future__ import annotations

from typing import Literal

FIRST_TUNING_SEED = 2**62
"""From here on, seeds are for tuning: no bench takes them, so that no setting is judged by seeds it was chosen on."""

REFERENCE = "fixed"  # the strategy that every other is compared with; equal weights

Role = Literal["strategy", "tuned", "front", "single"]
SINGLE, TUNED, FRONT = "single", "tuned", "front"
"""Prefixes of a label: a task trained alone; a strategy with its tuned settings; fixed weights of a main-task share."""
ALL_TASKS = "all tasks"
"""The task of Delta-m where it stands among the scores of tasks."""


def role_of(label: str) -> Role:
    """What a run is for, by its label."""
    prefix = label.partition(":")[0]
    return prefix if prefix in (SINGLE, TUNED, FRONT) else "strategy"


def reference_of(label: str) -> str:
    """The label that a run is compared with: a tuned strategy with tuned fixed weights, others with equal ones."""
    return f"{TUNED}:{REFERENCE}" if role_of(label) == TUNED and label != f"{TUNED}:{REFERENCE}" else REFERENCE
