"""The answer of a bench in two sentences, written from its comparisons."""

from __future__ import annotations

import math

import pandas as pd

from mtlbench.contracts.metrics import Metric
from mtlbench.records.roles import ALL_TASKS, REFERENCE, TUNED, role_of
from mtlbench.stats.comparisons import seeds_needed


def answer(scores: pd.DataFrame, speeds: pd.DataFrame, setup: str, task: str) -> list[str]:
    """One sentence on the main task of the main setup, and one on the other setups or, if there is only one, on cost.

    `scores` is `comparisons.scores_frame` of all setups, `speeds` is `frames.speeds_frame`, `setup` is the main setup
    and `task` its main task.
    """
    roles = scores["strategy"].map(lambda name: role_of(str(name)))
    compared = scores[roles.isin(("strategy", "tuned")) & (scores["verdict"] != "")]
    main = compared[(compared["setup"] == setup) & (compared["task"] == task)]
    is_tuned = main["strategy"].str.startswith(f"{TUNED}:")
    if len(tuned := main[is_tuned & (main["reference"] != REFERENCE)]):
        first = _on_main(tuned, "tuned fixed weights", "With equal tuning budgets", setup, task)
    else:
        first = _on_main(main[~is_tuned], "equal fixed weights", "With default settings", setup, task)
    others = compared[(compared["setup"] != setup) & (compared["task"] != ALL_TASKS)]
    return [first, _over_setups(others) if len(others) else _on_cost(speeds)]


def _on_main(rows: pd.DataFrame, reference: str, lead: str, setup: str, task: str) -> str:
    if rows.empty:
        return f"No strategy was compared with {reference} on {setup}."
    metric = Metric.of(rows.iloc[0].to_dict())
    seeds, comparisons = int(rows["seeds"].min()), int(rows["comparisons"].max())
    score = f"{task} {metric.name} on {setup}"
    if (rows["verdict"] == "too few seeds").all():
        return (
            f"{seeds} seeds are too few to distinguish any strategy from {reference} in {score}: a test corrected for "
            f"{comparisons} comparisons needs {seeds_needed(comparisons)} seeds."
        )
    ordered = rows.sort_values("difference", ascending=not metric.higher_is_better)
    better, worse = ordered[ordered["verdict"] == "better"], ordered[ordered["verdict"] == "worse"]
    lost = f"; {_listed(worse[::-1])} did significantly worse" if len(worse) else ""
    if len(better):
        by = "by" if len(better) == 1 else "by up to"
        return f"{lead}, {_listed(better)} beat {reference} in {score} {by} {_difference(better.iloc[0])}{lost}."
    best = ordered.iloc[0]
    smallest = float(rows["detectable"].replace(math.inf, math.nan).median())
    power = ""
    if math.isfinite(smallest):
        size = metric.difference(smallest, unit=False).lstrip("+")
        power = f" (a difference of {size} would have been found with 80% power)"
    insignificant = "" if best["verdict"] == "worse" else ", which is not significant"
    none = f"none of {len(rows)} strategies" if len(rows) > 1 else "no strategy"
    return (
        f"{lead}, {none} beat {reference} in {score}: the best, {_name(best['strategy'])}, differs by "
        f"{_difference(best)}{insignificant}{power}{lost}."
    )


def _over_setups(rows: pd.DataFrame) -> str:
    main = rows.drop_duplicates(["setup", "strategy"])  # the main task comes first
    better, worse = main[main["verdict"] == "better"], main[main["verdict"] == "worse"]
    largest_first = better.sort_values("difference", key=lambda values: -values.abs())
    winners = [f"{setup} ({_listed(rows)})" for setup, rows in largest_first.groupby("setup", sort=False)]
    count, beat = rows["setup"].nunique(), "beat equal fixed weights in the main task"
    setups = f"{count} other setups" if count > 1 else "other setup"
    only = "only " * (len(winners) < count)
    gains = f"strategies {beat} {only}on {', '.join(winners)}" if winners else f"no strategy {beat}"
    total, undecided = len(main), len(main) - len(better) - len(worse)
    return (
        f"On the {setups}, with default settings, {gains}. Of {total} comparison{'s' * (total > 1)}, {len(better)} are "
        f"significantly better, {len(worse)} significantly worse and {undecided} not significant."
    )


def _on_cost(speeds: pd.DataFrame) -> str:
    stack = speeds[speeds["replicas"] == speeds["replicas"].max()]
    if stack.empty:
        return "Training speed was not measured."
    slowest = stack.loc[stack["ratio"].idxmax(), "strategy"]
    return (
        f"A training step takes {stack['ratio'].min():.2f} to {stack['ratio'].max():.2f} times as long as with fixed "
        f"weights; {slowest} takes longest."
    )


def _difference(row: pd.Series) -> str:
    metric = Metric.of(row.to_dict())
    value, low, high = (
        metric.difference(float(row[name]), unit=False) for name in ("difference", "difference_low", "difference_high")
    )
    unit = " percentage points" if metric.is_share else ""
    return value + unit + (f" [{low}, {high}]" if math.isfinite(row["difference_low"]) else "")


def _listed(rows: pd.DataFrame, most: int = 4) -> str:
    """`a, b and c`; for more than `most` names, the first ones and the number of the others; empty for none."""
    names = [_name(label) for label in rows["strategy"]]
    if len(names) > most:
        names[most - 1 :] = [f"{len(names) - most + 1} more"]
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def _name(label: object) -> str:
    return str(label).removeprefix(f"{TUNED}:")
