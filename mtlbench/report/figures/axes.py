"""Limits, ticks and scales of axes."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter, StrMethodFormatter

from mtlbench.contracts.metrics import Metric
from mtlbench.report.figures.inputs import Floats

MAX_FACETS = 3  # largest number of panels side by side


def limits(values: Floats, reach: float = 12.0) -> tuple[float, float]:
    """Limits around all values within `reach` times the median distance to the median; outliers do not count."""
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    distances = np.abs(values - np.median(values))
    near = values[distances <= reach * np.median(distances)] if np.median(distances) else values
    low, high = float(near.min()), float(near.max())
    margin = 0.06 * (high - low) or 0.02 * abs(high) or 0.02
    return low - margin, high + margin


def number_axis(ax: Axes, which: str, metric: Metric, bins: int = 6) -> None:
    """Round ticks, in percent for shares."""
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_locator(MaxNLocator(bins, steps=[1, 2, 5, 10]))
    if metric.is_share:
        ticks = axis.get_major_locator().tick_values(*axis.get_view_interval())
        digits = -math.floor(math.log10(100 * (ticks[1] - ticks[0])) + 1e-6)
        axis.set_major_formatter(PercentFormatter(1, decimals=max(0, digits)))


def log_axis(ax: Axes, which: str) -> None:
    """Log scale with plain numbers."""
    ax.set(**{f"{which}scale": "log"})
    axis = ax.xaxis if which == "x" else ax.yaxis
    low, high = sorted(axis.get_view_interval())
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 150 * low else (1,)))
    axis.set_major_formatter(StrMethodFormatter("{x:,.6g}"))
    axis.set_minor_locator(NullLocator())


def epoch_axis(ax: Axes, data: pd.DataFrame) -> None:
    """Ticks at whole epochs, from the start of training."""
    ax.set_xlim(0, 1.03 * float(data["epoch"].max()))
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
