"""The data that plots draw: the frames of one setup, and the scores and rankings across setups."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtlbench.contracts.metrics import Better, Metric
from mtlbench.records.roles import REFERENCE
from mtlbench.stats.comparisons import rankings
from mtlbench.stats.findings import Findings
from mtlbench.stats.ranks import Ranking

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Frames:
    """Frames of one setup (see `stats.findings`), its tasks (main task first), and a caption with its conditions."""

    runs: pd.DataFrame
    curves: pd.DataFrame
    scores: pd.DataFrame
    speeds: pd.DataFrame
    tasks: tuple[str, ...]
    caption: str

    @classmethod
    def of(cls, findings: Findings, setup: str) -> Frames:
        """The frames of one setup; speeds are measured on the main setup only."""
        lost = [run.spec.label for run in findings.runs[setup] if run.problem]
        runs, curves, scores = (
            frame[frame["setup"] == setup] for frame in (findings.per_seed, findings.curves, findings.scores)
        )
        speeds = findings.speeds if setup == findings.bench.main_setup else findings.speeds.iloc[:0]
        tasks = tuple(task.name for task in findings.tasks[setup])
        caption = f"Setup {setup}, {findings.conditions}." + (f" Without scores: {', '.join(lost)}." if lost else "")
        return cls(runs, curves, scores, speeds, tasks, caption)

    def metric(self, task: str) -> Metric:
        """The metric of a task, at the scale of fixed weights."""
        scores = self.scores[self.scores["task"] == task]
        rows = pd.concat([scores, self.runs[self.runs["task"] == task]])
        if rows.empty:
            return Metric("score", "lower")
        scales = scores.loc[scores["strategy"] == REFERENCE, "mean"].to_numpy(dtype=np.float64)
        first, scale = rows.iloc[0], float(scales[0]) if scales.size else math.nan
        return Metric(str(first["metric"]), cast("Better", first["better"]), scale)


@dataclass(frozen=True)
class Overview:
    """The scores of all setups, and the rankings across them."""

    scores: pd.DataFrame
    main_tasks: dict[str, str]
    rankings: list[Ranking]
    caption: str

    @classmethod
    def of(cls, findings: Findings) -> Overview:
        """The overview of a bench."""
        ranked = rankings(findings.per_seed, findings.main_tasks)
        return cls(findings.scores, findings.main_tasks, ranked, f"{findings.conditions}.")


def rows_of(frame: pd.DataFrame, **where: object) -> pd.DataFrame:
    """Rows whose columns have the given values."""
    for column, value in where.items():
        frame = frame[frame[column] == value]
    return frame


def floats(frame: pd.DataFrame, *columns: str) -> Floats:
    """Columns as numbers, `[rows, columns]`."""
    return frame[list(columns)].to_numpy(dtype=np.float64, na_value=np.nan)
