"""Facts computed from the measured rows: medians, growth, and whether the faster way to a Gramian was chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pandas as pd

from mtlbench.engine.gradients import PER_JACOBIAN_VALUE, gramian_costs
from tests.project.growth.measure import GRAMIAN_SECONDS, GRAMIANS, PATHS, layer_at

KEYS = ["quantity", "curve", "name", "x"]


def medians(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each quantity, curve, name and x: `value`, and `low` and `high` around the middle half of rounds."""
    grouped = rows.groupby(KEYS, sort=False)
    quantiles = {name: grouped["value"].quantile(q) for name, q in (("low", 0.25), ("value", 0.5), ("high", 0.75))}
    return pd.DataFrame(quantiles).join(grouped[["samples", "formula"]].first()).reset_index()


def line(points: pd.DataFrame, quantity: str, curve: str, name: str) -> pd.DataFrame:
    """The points of one line, in the order of x."""
    chosen = (points["quantity"] == quantity) & (points["curve"] == curve) & (points["name"] == name)
    return points[chosen].sort_values("x")


def exponents(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """The power of x with which y grows, from the first two points and from the last two."""
    slopes = [math.log(y[i + 1] / y[i]) / math.log(x[i + 1] / x[i]) for i in (0, len(x) - 2)]
    return slopes[0], slopes[1]


def seconds_per_unit(points: pd.DataFrame) -> float:
    """The constant that scales the formula of Gramians to seconds: the median of their quotients."""
    own = points[points["quantity"] == GRAMIAN_SECONDS]
    return float((own["value"] / own["formula"]).median())


@dataclass(frozen=True)
class Choice:
    """The way that the rule takes for one shape, and its time relative to the other way (median over rounds)."""

    curve: str
    x: int
    path: str
    ratio: float


def chosen_path(curve: str, x: int, per_value: int = PER_JACOBIAN_VALUE) -> str:
    """The way that `layer_gramian` takes, or would take if a value of the Jacobian cost `per_value`."""
    shape = layer_at(curve, x)
    ghost, explicit = gramian_costs(**asdict(shape))
    explicit += (per_value - PER_JACOBIAN_VALUE) * shape.tasks * (shape.into + 1) * shape.out
    return PATHS[0] if ghost <= explicit else PATHS[1]


def choices(rows: pd.DataFrame, per_value: int = PER_JACOBIAN_VALUE) -> list[Choice]:
    """The choice of the rule at every measured shape; the two ways are compared within each round."""
    made: list[Choice] = []
    own = rows[rows["quantity"] == GRAMIAN_SECONDS]
    for curve, (_, _, xs) in GRAMIANS.items():
        for x in xs:
            at = own[(own["curve"] == curve) & (own["x"] == x)].pivot_table("value", "round", "name")
            path = chosen_path(curve, x, per_value)
            other = PATHS[1 - PATHS.index(path)]
            made.append(Choice(curve, x, path, float((at[path] / at[other]).median())))
    return made


def switch(curve: str) -> int | None:
    """The first x of the curve at which the rule takes another way than at its start."""
    xs = GRAMIANS[curve][-1]
    start = chosen_path(curve, xs[0])
    return next((x for x in range(xs[0], xs[-1] + 1) if chosen_path(curve, x) != start), None)
