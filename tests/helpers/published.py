"""`python -m tests.helpers.published`: prints the table of docs/multimnist.md from the runs of results/multimnist."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "results" / "multimnist"
TASKS = ("left", "right")
PUBLISHED = {
    "single": (97.23, 95.90),
    "fixed": (96.46, 94.99),
    "uncertainty": (96.47, 95.29),
    "gradnorm": (96.27, 94.84),
    "mgda": (97.26, 95.90),
}
"""Accuracy in per cent on both tasks, of one run each, as published by Sener & Koltun, NeurIPS 2018."""


def accuracies(strategy: str, task: str) -> NDArray[np.float64]:
    """Test accuracy of each seed in per cent; for `single`, of the task trained alone."""
    runs = pd.read_csv(BENCH / "runs.csv")
    label = f"{strategy}:{task}" if strategy == "single" else strategy
    chosen = runs[(runs["strategy"] == label) & (runs["task"] == task)].sort_values("seed")
    return 100 * chosen["score"].to_numpy(dtype=np.float64)


def half_width(values: NDArray[np.float64]) -> float:
    """Half the width of Student's 95% interval of the mean."""
    return float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)


def difference(strategy: str, task: str) -> float:
    """Our mean minus the published accuracy, in percentage points."""
    return float(accuracies(strategy, task).mean()) - PUBLISHED[strategy][TASKS.index(task)]


def table() -> list[str]:
    """The lines of the table."""
    columns = [f"{task} {what}" for task in TASKS for what in ("accuracy %", "published %", "difference, points")]
    lines = [f"| strategy | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)]
    for strategy, published in PUBLISHED.items():
        cells = [f"`{strategy}:left`, `{strategy}:right`" if strategy == "single" else f"`{strategy}`"]
        for task, theirs in zip(TASKS, published, strict=True):
            ours = accuracies(strategy, task)
            cells += [
                f"{ours.mean():.2f} ± {half_width(ours):.2f}",
                f"{theirs:.2f}",
                f"{difference(strategy, task):+.2f}",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    print("\n".join(table()))
