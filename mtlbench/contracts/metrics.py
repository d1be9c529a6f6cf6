"""What a score counts: which way is better, and how a score or a difference of scores is written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

Better = Literal["higher", "lower"]

DELTA_M = "delta-m"
SHARES: dict[str, Better] = {"accuracy": "higher", "error": "lower", DELTA_M: "higher"}
"""The metrics that are shares of 1, each with its better way: shown in per cent, differences in points of them."""
DIGITS, FEWEST_PLACES, MOST_PLACES = 4, 2, 8
"""Of a score that is no share: digits at its scale, and places after the point at least and at most."""
LARGE = 1e6  # from here on with an exponent: a training that went astray must not widen a table


@dataclass(frozen=True)
class Metric:
    """What a score counts, whether more of it is better, and about how large it is where it is shown."""

    name: str
    better: Better
    scale: float = math.nan

    @classmethod
    def of(cls, row: Mapping[Any, Any]) -> Metric:
        """The metric of a row of `comparisons.compare`; its scale is what the row is compared with."""
        mean, difference = float(row["mean"]), float(row["difference"])
        scale = mean - difference if math.isfinite(difference) else mean
        return cls(str(row["metric"]), cast("Better", row["better"]), scale)

    @property
    def higher_is_better(self) -> bool:
        """The direction."""
        return self.better == "higher"

    @property
    def direction(self) -> str:
        """The direction in words."""
        return f"{self.better} is better"

    @property
    def is_share(self) -> bool:
        """Whether scores are shown in per cent, and differences in points."""
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
    """A score as text: a share in per cent, anything else to as many places as its scale asks for, or it itself."""
    if metric in SHARES:
        return f"{100 * score:z.2f}" + ("%" if unit else "")
    return _plain(score, scale, "z")


def named_score(score: float, metric: str) -> str:
    """A score with what it counts, as it is shown while a bench goes on."""
    return f"{metric} {score_text(score, metric)}"


def _plain(value: float, scale: float, sign: str) -> str:
    if abs(value) >= LARGE:
        return f"{value:{sign}.{DIGITS - 1}e}"
    size = abs(scale) if math.isfinite(scale) and scale else abs(value)
    # A number that begins with 1 has one digit more: else it would be written ten times as coarsely as one with 9.
    places = DIGITS - 1 - math.floor(math.log10(size / 2)) if math.isfinite(size) and size else DIGITS
    return f"{value:{sign}.{min(max(places, FEWEST_PLACES), MOST_PLACES)}f}"
