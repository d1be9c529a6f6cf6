"""Made-up scores of strategies that differ from fixed weights by known gains."""

from __future__ import annotations

import numpy as np
import pandas as pd

TASKS = {"digit": "accuracy", "above_five": "error"}


def runs_of(gains: dict[str, float], setup: str = "mnist", seeds: int = 12, noise: float = 1e-3) -> pd.DataFrame:
    """Scores of fixed weights, single tasks, and strategies whose main accuracy differs by the given gains."""
    rng = np.random.default_rng(0)
    rows: list[tuple[object, ...]] = []
    shared = rng.normal(0, 1e-2, seeds)  # what a seed does to every strategy alike
    for strategy, gain in {"fixed": 0.0, **gains, "single:digit": 0.0, "single:above_five": 0.0}.items():
        for task, metric in TASKS.items():
            if strategy.startswith("single:") and strategy != f"single:{task}":
                continue
            base = 0.9 + gain if task == "digit" else 0.1 - gain
            scores = base + shared + rng.normal(0, noise, seeds)
            better = "higher" if task == "digit" else "lower"
            rows += [(setup, strategy, seed, task, metric, better, score, 1.0) for seed, score in enumerate(scores)]
    return pd.DataFrame(rows, columns=["setup", "strategy", "seed", "task", "metric", "better", "score", "loss"])
