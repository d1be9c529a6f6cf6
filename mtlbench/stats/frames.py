"""Stored runs as tidy frames: every number that a table or a plot shows is computed here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import pandas as pd

from mtlbench.contracts.metrics import DELTA_M, named_score
from mtlbench.records.records import RunRecord, SpeedRecord
from mtlbench.records.roles import ALL_TASKS
from mtlbench.stats.estimates import median_over_rounds

RUN_COLUMNS = ["setup", "strategy", "seed", "task", "metric", "better", "score", "loss"]
CURVE_COLUMNS = [
    "setup",
    "strategy",
    "seed",
    "split",
    "epoch",
    "task",
    "loss",
    "score",
    "weight",
    "gradient_norm",
    "cosine",
]
SPEED_COLUMNS = [
    "strategy",
    "replicas",
    "samples_per_second",
    "samples_low",
    "samples_high",
    "ratio",
    "ratio_low",
    "ratio_high",
    "peak_memory",
]


def runs_frame(runs: Sequence[RunRecord]) -> pd.DataFrame:
    """Test score and loss of each strategy, seed and task; a task that a run does not train has no row."""
    rows: list[tuple[object, ...]] = []
    for run in runs:
        if run.scored is None:
            continue
        for k, seed in enumerate(run.settings.seeds):
            for t, task in run.trained:
                test = run.scored.test
                scored = test.scores[k][t], test.losses[k][t]
                rows.append((run.settings.setup, run.spec.label, seed, task.name, task.metric, task.better, *scored))
    return pd.DataFrame(rows, columns=RUN_COLUMNS)


def curves_frame(runs: Sequence[RunRecord]) -> pd.DataFrame:
    """How losses, scores, weights and gradients went: training stretches, and validation after each epoch.

    `cosine` is the mean cosine between the task's gradient and each other task's.
    """
    rows = [row for run in runs for row in (*_training_rows(run), *_validation_rows(run))]
    return pd.DataFrame(rows, columns=CURVE_COLUMNS)


def curves_over_seeds(curves: pd.DataFrame) -> pd.DataFrame:
    """The curves' mean over seeds, and of loss, score and weight smallest and largest value.

    A seed whose value is missing is left out of the three.
    """
    keys = ["setup", "strategy", "split", "epoch", "task"]
    groups = curves.astype(dict.fromkeys(CURVE_COLUMNS[6:], float)).groupby(keys, sort=False)
    columns: dict[str, pd.Series[float]] = {}
    for name in ("loss", "score", "weight"):
        columns |= {name: groups[name].mean(), f"{name}_low": groups[name].min(), f"{name}_high": groups[name].max()}
    columns |= {name: groups[name].mean() for name in ("gradient_norm", "cosine")}
    return pd.DataFrame(columns).reset_index()


def speeds_frame(costs: SpeedRecord | None, strategies: Sequence[str]) -> pd.DataFrame:
    """Per strategy and stack the median over rounds of throughput and of step time relative to fixed weights."""
    rows: list[tuple[object, ...]] = []
    measured = costs.costs if costs else []
    for cost in sorted(
        (cost for cost in measured if cost.label in strategies),
        key=lambda cost: (strategies.index(cost.label), cost.replicas),
    ):
        speed = median_over_rounds(cost.samples_per_second)
        ratio = median_over_rounds(cost.ratios)
        estimates = (speed.value, speed.low, speed.high, ratio.value, ratio.low, ratio.high)
        rows.append((cost.label, cost.replicas, *estimates, cost.peak_memory))
    return pd.DataFrame(rows, columns=SPEED_COLUMNS)


SUMMARY_OF_SCORE = {
    "": "mean",
    "_low": "low",
    "_high": "high",
    "_difference": "difference",
    "_difference_low": "difference_low",
    "_difference_high": "difference_high",
    "_p": "p",
    "_p_holm": "p_holm",
    "_gained": "gained",
    "_detectable": "detectable",
    "_verdict": "verdict",
}
"""Columns of `summary.csv` behind the name of a score, and where they come from."""


def summary_frame(runs: Sequence[RunRecord], scores: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """One row per run of one setup: scores, comparisons with the reference, speed; those without with their problem.

    Scores and differences are as they were scored, those of accuracy and error as shares; `samples_per_second` and
    `cost_ratio` are of the whole stack, those with `_one_replica` of a single replica.
    """
    rows: list[dict[str, object]] = []
    for run in runs:
        label = run.spec.label
        row: dict[str, object] = {"setup": run.settings.setup, "strategy": label, "problem": run.problem}
        columns = {task.name: task.column for task in run.tasks} | {ALL_TASKS: DELTA_M.replace("-", "_")}
        for score in scores[scores["strategy"] == label].to_dict("records"):
            name = columns[str(score["task"])]
            row |= {name + suffix: score[column] for suffix, column in SUMMARY_OF_SCORE.items()}
            row |= {"seeds": score["seeds"], "reference": score["reference"]}
        mine = costs[costs["strategy"] == label]
        for position, cost in enumerate(mine.sort_values("replicas", ascending=False).to_dict("records")):
            which = "" if position == 0 else "_one_replica"
            row[f"replicas{which}"] = cost["replicas"]
            row[f"samples_per_second{which}"] = cost["samples_per_second"]
            for column in ("ratio", "ratio_low", "ratio_high"):
                row[f"cost_{column}{which}"] = cost[column]
            row[f"peak_memory{which}"] = cost["peak_memory"]
        rows.append(row)
    return pd.DataFrame(rows)


def without_delta_m(runs: Sequence[RunRecord]) -> list[str]:
    """A line for each task alone whose mean score leaves no relative change, and so no Delta-m."""
    lines: list[str] = []
    for run in runs:
        if run.spec.only is None or run.scored is None:
            continue
        ((t, task),) = run.trained
        scores = [row[t] for row in run.scored.test.scores]
        if (mean := sum(scores) / len(scores)) <= 0:
            lines.append(f"no Delta-m: {task.name} alone scored {named_score(mean, task.metric)}, which is not above 0")
    return lines


def _training_rows(run: RunRecord) -> Iterator[tuple[object, ...]]:
    if run.scored is None:
        return
    path = run.scored.trajectory
    pairs = list(combinations(range(len(run.tasks)), 2))
    for p, epoch in enumerate(path.epochs):
        for k, seed in enumerate(run.settings.seeds):
            for t, task in run.trained:
                norm = path.norms[p][k][t] if path.norms else None
                cosine = None
                if path.cosines and pairs:
                    mine = [path.cosines[p][k][i] for i, pair in enumerate(pairs) if t in pair]
                    cosine = sum(mine) / len(mine)
                loss, weight = path.losses[p][k][t], path.weights[p][k][t]
                which = run.settings.setup, run.spec.label, seed, "training", epoch, task.name
                yield *which, loss, None, weight, norm, cosine


def _validation_rows(run: RunRecord) -> Iterator[tuple[object, ...]]:
    if run.scored is None:
        return
    for epoch, evaluation in enumerate(run.scored.validation, start=1):
        for k, seed in enumerate(run.settings.seeds):
            for t, task in run.trained:
                loss, score = evaluation.losses[k][t], evaluation.scores[k][t]
                which = run.settings.setup, run.spec.label, seed, "validation", float(epoch), task.name
                yield *which, loss, score, None, None, None
