"""What each plot draws. No statistics here: means and intervals come with the frames."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.figure import Figure

from mtlbench.figures.rows import accuracy, auxiliary, cost
from mtlbench.figures.trade_off import trade_off
from mtlbench.figures.training import curves, weights
from mtlbench.plots import Frames

DRAWINGS: dict[str, Callable[[Frames], Figure]] = {
    "accuracy": accuracy,
    "auxiliary": auxiliary,
    "trade-off": trade_off,
    "curves": curves,
    "weights": weights,
    "cost": cost,
}
