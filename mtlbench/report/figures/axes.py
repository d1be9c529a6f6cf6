"""What all plots share: choosing from the frames, numbers as text, and axes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter, StrMethodFormatter
from numpy.typing import NDArray

from mtlbench.contracts.metrics import Better, Metric
from mtlbench.records.roles import REFERENCE, role_of
from mtlbench.report.figures.inputs import Frames
from mtlbench.report.figures.style import in_rows, is_baseline

Floats = NDArray[np.float64]

MAX_FACETS = 3


def wrapped(label: str, width: int = 34, lines: int = 2) -> str:
    """The label on at most that many lines, broken after a colon or comma, shortened in the middle if need be."""
    parts = re.split(r"(?<=[:,])(?![^\[]*\])", label)
    half = width // 2
    return "\n".join(
        x if len(x) <= width else f"{x[:half]}…{x[1 - half :]}" for x in filled(*parts, width=width, lines=lines)
    )


def filled(*parts: str, width: int, lines: int | None = None) -> list[str]:
    """Lines of the parts one after the other, a new one where it would be longer than `width`, if there may be more."""
    found = [""]
    for part in parts:
        if found[-1] and len(found[-1] + part) > width and (lines is None or len(found) < lines):
            found.append("")
        found[-1] += part
    return found


def titled(task: str, *parts: str, width: int) -> str:
    """A task's name and what is shown of it, a part on a new line where there is no room, shortened if need be."""
    lines = filled(*(wrapped(part, width, 1) for part in (f"{task}:", *parts)), width=width)
    return "\n".join(line.strip() for line in lines)


def rows_of(frame: pd.DataFrame, **where: object) -> pd.DataFrame:
    """The rows whose columns have these values."""
    for column, value in where.items():
        frame = frame[frame[column] == value]
    return frame


def floats(frame: pd.DataFrame, *columns: str) -> Floats:
    """Columns as numbers, `[rows, columns]`."""
    return frame[list(columns)].to_numpy(dtype=np.float64, na_value=np.nan)


def intervals_of(frames: Frames, task: str) -> dict[str, Floats]:
    """Mean and interval, `[3]`, of each strategy in one task."""
    rows = rows_of(frames.scores, task=task)
    return dict(zip(map(str, rows["strategy"]), floats(rows, "mean", "low", "high"), strict=True))


def metric_of(frames: Frames, task: str) -> Metric:
    """What the task's score measures, at the scale of fixed weights."""
    rows = rows_of(pd.concat([frames.scores, frames.runs]), task=task)
    if rows.empty:
        return Metric("score", "lower")
    first = rows.iloc[0]
    scale = floats(rows_of(frames.scores, task=task, strategy=REFERENCE), "mean").ravel()
    return Metric(str(first["metric"]), cast("Better", first["better"]), float(scale[0]) if scale.size else math.nan)


def number(value: float, metric: Metric, *, signed: bool = False) -> str:
    """A score, or a difference of scores (in percentage points), as text."""
    if not math.isfinite(value):
        return "–"
    return (metric.difference(value, unit=False) if signed else metric.score(value)).replace("-", "−")


def estimate(values: Floats, metric: Metric) -> str:
    """Mean and interval, `[3]`, as text."""
    mean, low, high = values
    if not math.isfinite(low + high):
        return number(mean, metric)
    ends = (number(end, metric).removesuffix("%") for end in (low, high))
    return f"{number(mean, metric)} [{', '.join(ends)}]"


def limits(values: Floats, reach: float = 12.0) -> tuple[float, float]:
    """Limits around all values but those that would hide the others: `reach` times the median distance away."""
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    distances = np.abs(values - np.median(values))
    near = values[distances <= reach * np.median(distances)] if np.median(distances) else values
    low, high = float(near.min()), float(near.max())
    margin = 0.06 * (high - low) or 0.02 * abs(high) or 0.02
    return low - margin, high + margin


def number_axis(ax: Axes, which: str, metric: Metric, bins: int = 6) -> None:
    """Round ticks, in per cent for shares."""
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_locator(MaxNLocator(bins, steps=[1, 2, 5, 10]))
    if metric.is_share:
        ticks = axis.get_major_locator().tick_values(*axis.get_view_interval())
        digits = -math.floor(math.log10(100 * (ticks[1] - ticks[0])) + 1e-6)
        axis.set_major_formatter(PercentFormatter(1, decimals=max(0, digits)))


def log_axis(ax: Axes, which: str) -> None:
    """A log scale with plain numbers."""
    ax.set(**{f"{which}scale": "log"})
    axis = ax.xaxis if which == "x" else ax.yaxis
    low, high = sorted(axis.get_view_interval())
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 150 * low else (1,)))
    axis.set_major_formatter(StrMethodFormatter("{x:,.6g}"))
    axis.set_minor_locator(NullLocator())


def names_of(frame: pd.DataFrame, *, baselines: bool = True) -> list[str]:
    """The frame's strategies but the front of fixed weights, in its order, a tuned one right after its own."""
    names = map(str, frame["strategy"].unique())
    return in_rows([n for n in names if role_of(n) != "front" and (baselines or not is_baseline(n))])


def not_drawn(tasks: Sequence[str]) -> str:
    """A note for the tasks that found no place."""
    return f"Not drawn: {', '.join(tasks)}." if tasks else ""


def epoch_axis(ax: Axes, data: pd.DataFrame) -> None:
    """Whole epochs, from the start of training."""
    ax.set_xlim(0, 1.03 * float(data["epoch"].max()))
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
