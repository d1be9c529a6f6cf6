"""Metrics: which direction of a score is better, and how scores and differences of scores are written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

Better = Literal["higher", "lower"]

DELTA_M = "delta-m"
SHARES: dict[str, Better] = {"accuracy": "higher", "error": "lower", DELTA_M: "higher"}
"""Metrics that are shares of 1, with their better direction; shown in per cent, differences in percentage points."""
DIGITS, FEWEST_PLACES, MOST_PLACES = 4, 2, 8
"""For other metrics: significant digits at the metric's scale, and bounds on the decimal places."""
LARGE = 1e6  # from here on with an exponent, so that a diverging training does not widen a table


@dataclass(frozen=True)
class Metric:
    """What a score measures, which direction is better, and the typical size of a score, which decides its digits."""

    name: str
    better: Better
    scale: float = math.nan

    @classmethod
    def of(cls, row: Mapping[Any, Any]) -> Metric:
        """The metric of a row of `comparisons.compare`; its scale is the score that the row is compared with."""
        mean, difference = float(row["mean"]), float(row["difference"])
        scale = mean - difference if math.isfinite(difference) else mean
        return cls(str(row["metric"]), cast("Better", row["better"]), scale)

    @property
    def higher_is_better(self) -> bool:
        """True if a higher score is the better one."""
        return self.better == "higher"

    @property
    def direction(self) -> str:
        """The better direction in words."""
        return f"{self.better} is better"

    @property
    def is_share(self) -> bool:
        """True if scores are shown in per cent, and differences in percentage points."""
        return self.name in SHARES

    def score(self, value: float, *, unit: bool = True) -> str:
        """A score as text."""
        return score_text(value, self.name, self.scale, unit=unit)

    def difference(self, value: float, *, unit: bool = True) -> str:
        """A difference of scores as text, with its sign."""
        if self.is_share:
            return f"{100 * value:+z.2f}" + (" points" if unit else "")
        return _plain(value, self.scale, "+z")


def score_text(score: float, metric: str, scale: float = math.nan, *, unit: bool = True) -> str:
    """A score as text: a share in per cent, others with the digits that the scale, or the score itself, asks for."""
    if metric in SHARES:
        return f"{100 * score:z.2f}" + ("%" if unit else "")
    return _plain(score, scale, "z")


def named_score(score: float, metric: str) -> str:
    """A score with the name of its metric."""
    return f"{metric} {score_text(score, metric)}"


def _plain(value: float, scale: float, sign: str) -> str:
    if abs(value) >= LARGE:
        return f"{value:{sign}.{DIGITS - 1}e}"
    size = abs(scale) if math.isfinite(scale) and scale else abs(value)
    # Halved, so that a number that begins with 1 gets one more digit: its relative precision is ten times that of 9.
    places = DIGITS - 1 - math.floor(math.log10(size / 2)) if math.isfinite(size) and size else DIGITS
    return f"{value:{sign}.{min(max(places, FEWEST_PLACES), MOST_PLACES)}f}"
