"""The answer of a bench in two plain sentences, made from its comparisons."""

from __future__ import annotations

import math

import pandas as pd

from mtlbench.contracts.metrics import Metric
from mtlbench.records.roles import ALL_TASKS, REFERENCE, TUNED, role_of
from mtlbench.stats.comparisons import seeds_needed


def answer(scores: pd.DataFrame, costs: pd.DataFrame, setup: str, task: str) -> list[str]:
    """What a bench found on the main task of its main setup, and beyond it.

    Args:
        scores: of all setups, `comparisons.scores_frame`.
        costs: `tables.speeds_frame`.
        setup: the main one.
        task: its main task.
    """
    roles = scores["strategy"].map(lambda name: role_of(str(name)))
    compared = scores[roles.isin(("strategy", "tuned")) & (scores["verdict"] != "")]
    here = compared[(compared["setup"] == setup) & (compared["task"] == task)]
    tuned = here[here["strategy"].str.startswith(f"{TUNED}:") & (here["reference"] != REFERENCE)]
    if len(tuned):
        first = _on_main(tuned, f"tuned {REFERENCE} weights", "Tuned under one budget", setup, task)
    else:
        untuned = here[~here["strategy"].str.startswith(f"{TUNED}:")]
        first = _on_main(untuned, "equal fixed weights", "At their defaults, nothing tuned", setup, task)
    beyond = compared[(compared["setup"] != setup) & (compared["task"] != ALL_TASKS)]
    return [first, _over_setups(beyond) if len(beyond) else _on_cost(costs)]


def _on_main(rows: pd.DataFrame, reference: str, lead: str, setup: str, task: str) -> str:
    if rows.empty:
        return f"Nothing was compared with {reference} on {setup}."
    metric, seeds, comparisons = (
        Metric.of(rows.iloc[0].to_dict()),
        int(rows["seeds"].min()),
        int(rows["comparisons"].max()),
    )
    what = f"{task} {metric.name} of {setup}"
    if (rows["verdict"] == "too few seeds").all():
        return (
            f"{seeds} seeds cannot tell any strategy from {reference} in the {what}: a test corrected for "
            f"{comparisons} comparisons needs {seeds_needed(comparisons)}."
        )
    ordered = rows.sort_values("difference", ascending=not metric.higher_is_better)
    better, worse = ordered[ordered["verdict"] == "better"], ordered[ordered["verdict"] == "worse"]
    lost = f"; {_named(worse[::-1])} {_are(worse)} worse" if len(worse) else ""
    if len(better):
        return f"{lead}, {_named(better)} beat{_s(better)} {reference} in the {what}, {_gap(better.iloc[0])}{lost}."
    best = ordered.iloc[0]
    floor = float(rows["detectable"].replace(math.inf, math.nan).median())
    power = ""
    if math.isfinite(floor):
        size = metric.difference(floor).lstrip("+")
        power = f", where a difference of {size} would have been found four times in five"
    return (
        f"{lead}, none of {len(rows)} strategies beat {reference} in the {what}: the best, {_plain(best['strategy'])}, "
        f"differs by {_gap(best)}{power}{lost}."
    )


def _over_setups(rows: pd.DataFrame) -> str:
    main = rows.drop_duplicates(["setup", "strategy"])  # the main task comes first
    better, worse = main[main["verdict"] == "better"], main[main["verdict"] == "worse"]
    largest_first = better.sort_values("difference", key=lambda values: -values.abs())
    where = [f"{setup} ({_named(mine)})" for setup, mine in largest_first.groupby("setup", sort=False)]
    gains = f"strategies beat equal fixed weights on {', '.join(where)}" if where else "none beat equal fixed weights"
    others = rows["setup"].nunique()
    counts = f"{len(better)} show a gain, {len(worse)} a loss and {len(main) - len(better) - len(worse)} nothing"
    where_else = f"{others} setups" if others > 1 else "setup"
    return f"On the other {where_else}, main task, defaults: {gains}; of {len(main)} comparisons {counts}."


def _on_cost(costs: pd.DataFrame) -> str:
    stack = costs[costs["replicas"] == costs["replicas"].max()]
    if stack.empty:
        return "Their cost has not been measured."
    dearest = stack.loc[stack["ratio"].idxmax()]
    return (
        f"A training step takes {stack['ratio'].min():.2f} to {stack['ratio'].max():.2f} times as long as with fixed "
        f"weights ({dearest['strategy']} the longest)."
    )


def _gap(row: pd.Series) -> str:
    metric = Metric.of(row.to_dict())
    value, low, high = (float(row[name]) for name in ("difference", "difference_low", "difference_high"))
    interval = f" [{metric.difference(low, unit=False)}, {metric.difference(high, unit=False)}]"
    return metric.difference(value) + (interval if math.isfinite(low) else "")


def _named(rows: pd.DataFrame, most: int = 4) -> str:
    names = [_plain(name) for name in rows["strategy"]]
    return (
        ", ".join(names) if len(names) <= most else f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    )


def _plain(label: object) -> str:
    return str(label).removeprefix(f"{TUNED}:")


def _are(rows: pd.DataFrame) -> str:
    return "is" if len(rows) == 1 else "are"


def _s(rows: pd.DataFrame) -> str:
    return "s" if len(rows) == 1 else ""
