"""Many lines in one panel: a few in colour, the others grey, with names beside the ends in the order of the ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from scipy.optimize import isotonic_regression

from mtlbench.contracts.metrics import Metric, score_text
from mtlbench.records.roles import REFERENCE
from mtlbench.report.figures.axes import limits
from mtlbench.report.figures.inputs import Floats
from mtlbench.report.figures.marks import mark
from mtlbench.report.figures.style import FAINT, Style, is_baseline, shown
from mtlbench.report.figures.texts import number, wrapped

LINE = 9.0  # points from one name to the next
GAP = 20.0  # points between the axes and the names
BEST, WORST = 3, 2


@dataclass(frozen=True)
class Ends:
    """The last value of each line of a panel, and the names drawn, by strategy."""

    ax: Axes
    values: dict[str, float]
    texts: dict[str, Annotation]


def extremes(data: pd.DataFrame, column: str, *, higher_is_better: bool) -> list[str]:
    """The strategies to be drawn in colour: fixed weights, baselines, and those that ended best and worst."""
    last = _means(data, column).iloc[-1].sort_values(ascending=not higher_is_better)
    ranked = [str(name) for name in last.index if name != REFERENCE and not is_baseline(str(name))]
    others = [str(name) for name in last.index if str(name) not in ranked]
    return [*others, *ranked[:BEST], *ranked[BEST:][-WORST:]]


def many_lines(
    ax: Axes, data: pd.DataFrame, column: str, look: dict[str, Style], marked: Sequence[str], log: bool, metric: Metric
) -> Ends:
    """One line per strategy, the mean over seeds. With `log`, only the coloured lines (`marked`) are named, else all.

    The limits ignore lines that end far from the others; their names are at the edge, with the value.
    """
    means = _means(data, column)
    ends = {name: float(means[name].dropna().iloc[-1]) for name in look if name in means}
    scale = np.log10 if log else np.asarray
    span = limits(np.asarray(scale(list(ends.values())), dtype=float))
    near = [name for name, end in ends.items() if span[0] <= float(scale(end)) <= span[1]]
    low, high = limits(np.asarray(scale(means[near].to_numpy(dtype=np.float64)), dtype=float).ravel())
    if log:
        ax.set_yscale("log")
    ax.set_ylim(*((10**low, 10**high) if log else (low, high)))
    few_points = len(means) <= 8
    texts: dict[str, Annotation] = {}
    for name, end in ends.items():
        style, line, clear = look[name], means[name].dropna(), name in marked
        written = score_text(end, "loss") if log else number(end, metric)
        drawn = ax.plot(
            line.index.to_numpy(dtype=np.float64), line.to_numpy(dtype=np.float64),
            color=style.colour if clear else "#c9c9c9", linewidth=1.8 if clear else 0.9, zorder=2.5 if clear else 2,
            marker=style.marker if few_points else "", markersize=6 if clear else 2.5, markeredgewidth=0.6,
            markeredgecolor="white" if clear else "#c9c9c9",
        )  # fmt: skip
        mark(drawn, name, f"{shown(name)}: {written} at the end")
        if clear and style.dashes:
            drawn[0].set_dashes(style.dashes)
        if clear or not log:
            away = "" if name in near else f" {'↓' if scale(end) < low else '↑'} {written}"
            texts[name] = ax.annotate(
                wrapped(shown(name), 30, 1) + away, (1, 0.5), (GAP, 0), xycoords="axes fraction",
                textcoords="offset points", size=7, va="center_baseline", color=style.ink if clear else FAINT,
                weight="bold" if clear else "normal",
            )  # fmt: skip
            mark(texts[name], name)
    return Ends(ax, ends, texts)


def name_ends(ends: Ends) -> None:
    """Move the names beside the ends of their lines without overlaps; the layout must be fixed before."""
    ax = ends.ax
    figure, box = ax.figure, ax.get_window_extent()
    assert isinstance(figure, Figure)
    height, width = (side * 72 / figure.dpi for side in (box.height, box.width))
    last = max(float(np.max(np.asarray(line.get_xdata(), dtype=float))) for line in ax.lines)
    at = {name: ax.transData.transform((last, ends.values[name])) for name in ends.texts}
    places = {name: ax.transAxes.inverted().transform(point) for name, point in at.items()}
    order = sorted(places, key=lambda name: places[name][1])
    wanted = np.array([float(np.clip(places[name][1], 0, 1)) for name in order])
    for name, want, got in zip(order, wanted, apart(wanted, LINE / height), strict=True):
        ends.texts[name].xy = (1, got)
        x = float(places[name][0])
        leader = ax.plot([x, 1, 1 + 0.85 * GAP / width], [want, want, got], color="#d9d9d9", linewidth=0.6, zorder=1,
                         transform=ax.transAxes, clip_on=False, in_layout=False)  # fmt: skip
        mark(leader, name)


def apart(wanted: Floats, gap: float) -> Floats:
    """The least-squares positions for `wanted` (ascending, in 0 to 1) that are at least `gap` apart, in 0 to 1.

    After subtracting the gaps this is isotonic regression, whose solution may be clipped to bounds.
    """
    gaps = gap * np.arange(len(wanted))
    fitted = np.asarray(isotonic_regression(wanted - gaps).x, dtype=np.float64)
    return np.asarray(fitted.clip(0, max(0.0, 1 - gaps[-1])) + gaps, dtype=np.float64)


def _means(data: pd.DataFrame, column: str) -> pd.DataFrame:
    """The mean over seeds, a row per epoch and a column per strategy."""
    data = data.assign(epoch=data["epoch"].round(6))
    return data.pivot_table(index="epoch", columns="strategy", values=column, aggfunc="mean")
