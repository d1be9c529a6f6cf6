"""Tidy data frames of stored runs: scores, curves and speeds, and the rows of `summary.csv`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import pandas as pd

from mtlbench.contracts.metrics import DELTA_M, named_score
from mtlbench.records.history import Result
from mtlbench.records.records import RunRecord, SpeedRecord
from mtlbench.records.roles import ALL_TASKS
from mtlbench.stats.estimates import median_over_rounds

RUN_COLUMNS = ["setup", "strategy", "seed", "task", "metric", "better", "score", "loss"]
CURVE_COLUMNS = [
    "setup", "strategy", "seed", "split", "epoch", "task", "loss", "score", "weight", "gradient_norm", "cosine",
]  # fmt: skip
SPEED_COLUMNS = [
    "strategy", "replicas", "samples_per_second", "samples_low", "samples_high", "ratio", "ratio_low", "ratio_high",
    "peak_memory",
]  # fmt: skip


def runs_frame(runs: Sequence[RunRecord]) -> pd.DataFrame:
    """Test score and loss of each strategy, seed and task; tasks that a run does not train have no rows."""
    rows = [
        (run.settings.setup, run.spec.label, seed, task.name, task.metric, task.better, scores[t], losses[t])
        for run in runs
        if run.scored
        for seed, scores, losses in zip(run.settings.seeds, run.scored.test.scores, run.scored.test.losses, strict=True)
        for t, task in run.trained
    ]
    return pd.DataFrame(rows, columns=RUN_COLUMNS)


def curves_frame(runs: Sequence[RunRecord]) -> pd.DataFrame:
    """Losses, scores, weights and gradients during training, and losses and scores of validation after each epoch.

    Training values are means over stretches of steps; `cosine` is the mean cosine between the gradient of a task and
    those of the other tasks.
    """
    scored = [(run, run.scored) for run in runs if run.scored]
    rows = [row for run, result in scored for row in (*_training_rows(run, result), *_validation_rows(run, result))]
    return pd.DataFrame(rows, columns=CURVE_COLUMNS)


def curves_over_seeds(curves: pd.DataFrame) -> pd.DataFrame:
    """Mean of each curve over seeds; for loss, score and weight also the smallest and largest value.

    Seeds with a missing value are left out.
    """
    keys = ["setup", "strategy", "split", "epoch", "task"]
    groups = curves.astype(dict.fromkeys(CURVE_COLUMNS[6:], float)).groupby(keys, sort=False)
    columns: dict[str, pd.Series[float]] = {}
    for name in ("loss", "score", "weight"):
        columns |= {name: groups[name].mean(), f"{name}_low": groups[name].min(), f"{name}_high": groups[name].max()}
    columns |= {name: groups[name].mean() for name in ("gradient_norm", "cosine")}
    return pd.DataFrame(columns).reset_index()


def speeds_frame(record: SpeedRecord | None, strategies: Sequence[str]) -> pd.DataFrame:
    """Median over rounds of throughput and relative step time, with intervals, by strategy and size of the stack."""
    rows: list[tuple[object, ...]] = []
    measured = [step for step in record.costs if step.label in strategies] if record else []
    for step in sorted(measured, key=lambda step: (strategies.index(step.label), step.replicas)):
        speed, ratio = median_over_rounds(step.samples_per_second), median_over_rounds(step.ratios)
        estimates = (speed.value, speed.low, speed.high, ratio.value, ratio.low, ratio.high)
        rows.append((step.label, step.replicas, *estimates, step.peak_memory))
    return pd.DataFrame(rows, columns=SPEED_COLUMNS)


SUFFIXES = (
    "low", "high", "difference", "difference_low", "difference_high", "p", "p_holm", "gained", "detectable", "verdict",
)  # fmt: skip
"""Columns of the scores that `summary.csv` has for each score, after the column of its mean."""


def summary_frame(runs: Sequence[RunRecord], scores: pd.DataFrame, speeds: pd.DataFrame) -> pd.DataFrame:
    """One row per run of a setup: scores, comparisons with the reference, speeds; a run without scores has its problem.

    Scores and differences are in the unit of the metric, those of accuracy and error as shares. `samples_per_second`
    and `cost_ratio` are those of the whole stack, with `_one_replica` those of a single replica.
    """
    rows: list[dict[str, object]] = []
    for run in runs:
        label = run.spec.label
        row: dict[str, object] = {"setup": run.settings.setup, "strategy": label, "problem": run.problem}
        columns = {task.name: task.column for task in run.tasks} | {ALL_TASKS: DELTA_M.replace("-", "_")}
        for score in scores[scores["strategy"] == label].to_dict("records"):
            name = columns[str(score["task"])]
            row |= {name: score["mean"], **{f"{name}_{suffix}": score[suffix] for suffix in SUFFIXES}}
            row |= {"seeds": score["seeds"], "reference": score["reference"]}
        largest_first = speeds[speeds["strategy"] == label].sort_values("replicas", ascending=False)
        for position, speed in enumerate(largest_first.to_dict("records")):
            stack = "_one_replica" if position else ""
            row |= {f"{name}{stack}": speed[name] for name in ("replicas", "samples_per_second")}
            row |= {f"cost_{name}{stack}": speed[name] for name in ("ratio", "ratio_low", "ratio_high")}
            row[f"peak_memory{stack}"] = speed["peak_memory"]
        rows.append(row)
    return pd.DataFrame(rows)


def without_delta_m(runs: Sequence[RunRecord]) -> list[str]:
    """A note for each task trained alone whose mean score is not above 0, so that Delta-m is undefined."""
    lines: list[str] = []
    for run in runs:
        if run.spec.only is None or run.scored is None:
            continue
        ((t, task),) = run.trained
        scores = [row[t] for row in run.scored.test.scores]
        if (mean := sum(scores) / len(scores)) <= 0:
            lines.append(f"no Delta-m: {task.name} alone scored {named_score(mean, task.metric)}; it must be above 0")
    return lines


def _training_rows(run: RunRecord, result: Result) -> Iterator[tuple[object, ...]]:
    path = result.trajectory
    pairs = list(combinations(range(len(run.tasks)), 2))
    for p, epoch in enumerate(path.epochs):
        for k, seed in enumerate(run.settings.seeds):
            for t, task in run.trained:
                norm = path.norms[p][k][t] if path.norms else None
                cosines = [path.cosines[p][k][i] for i, pair in enumerate(pairs) if t in pair] if path.cosines else []
                cosine = sum(cosines) / len(cosines) if cosines else None
                key = run.settings.setup, run.spec.label, seed, "training", epoch, task.name
                yield *key, path.losses[p][k][t], None, path.weights[p][k][t], norm, cosine


def _validation_rows(run: RunRecord, result: Result) -> Iterator[tuple[object, ...]]:
    for epoch, evaluation in enumerate(result.validation, start=1):
        for k, seed in enumerate(run.settings.seeds):
            for t, task in run.trained:
                key = run.settings.setup, run.spec.label, seed, "validation", float(epoch), task.name
                yield *key, evaluation.losses[k][t], evaluation.scores[k][t], None, None, None
