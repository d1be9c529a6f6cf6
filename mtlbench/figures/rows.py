"""Plots with one row per strategy: scores of a task, speed and cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mtlbench.figures.axes import (
    MAX_FACETS,
    better,
    floats,
    limits,
    log_axis,
    metric_of,
    names_of,
    not_drawn,
    number,
    number_axis,
    rows_of,
    wrapped,
)
from mtlbench.plots import FAINT, INK, Frames, nothing, page, styles
from mtlbench.records import is_share

LOG_COSTS = 5
"""From this cost on, a linear axis would press the usual ones, 1 to 2.5, together."""


def strategy_axis(ax: Axes, names: Sequence[str]) -> None:
    """Strategies from top to bottom on the y axis."""
    ax.set(ylim=(len(names) - 0.4, -0.6), yticks=range(len(names)), yticklabels=[wrapped(n) for n in names])
    ax.spines["left"].set_visible(False)


def height_of(names: Sequence[str]) -> float:
    """Inches for the axes of a plot with one row per strategy."""
    return 0.75 + len(names) * (0.4 if len(names) <= 10 else 0.3)


def forest(ax: Axes, frames: Frames, task: str, names: list[str], *, numbers: bool) -> None:
    """One row per strategy: every seed, the mean and its interval; where `numbers`, the same as text."""
    look, metric = styles(frames), metric_of(frames, task)
    scores, runs = rows_of(frames.scores, task=task), rows_of(frames.runs, task=task)
    intervals = floats(scores, "mean", "low", "high")
    shown = limits(np.concatenate([intervals.ravel(), floats(runs, "score").ravel()]))
    strategy_axis(ax, names)
    ax.set_xlim(*shown)
    number_axis(ax, "x", metric, bins=6 if numbers else 5)
    ax.set_xlabel(f"test {metric}" if numbers else f"{task}: test {metric}\n({better(metric)})")
    reference = floats(rows_of(scores, strategy="fixed"), "mean").ravel()
    if reference.size and shown[0] <= reference[0] <= shown[1]:
        ax.axvline(reference[0], color=INK, linewidth=0.9, dashes=(4, 3), zorder=1)
        ax.annotate("mean of fixed", (reference[0], 1), (0, 0), xycoords=("data", "axes fraction"),
                    textcoords="offset points", size=7.5, color=FAINT, ha="center", va="bottom")  # fmt: skip
    for y, name in enumerate(names):
        style = look[name]
        seeds = np.sort(floats(rows_of(runs, strategy=name), "score").ravel())
        seeds = seeds[np.isfinite(seeds)]
        # Multiples of the golden ratio: neighbours in score get rows far apart, the same at every drawing.
        rows = y + 0.46 * ((np.arange(seeds.size) * 0.618034 + 0.5) % 1 - 0.5) * (seeds.size > 1)
        row = rows_of(scores, strategy=name)
        mean, low, high = floats(row, "mean", "low", "high")[0] if len(row) else (math.nan,) * 3
        lost = mean < shown[0] or mean > shown[1]  # then its seeds would be drawn over the sign for it
        for marker, there in (
            ("o", (seeds >= shown[0]) & (seeds <= shown[1])),
            ("<", seeds < shown[0]),
            (">", seeds > shown[1]),
        ):
            if there.any() and (marker == "o" or not lost):
                ax.scatter(seeds[there].clip(*shown), rows[there], s=15, marker=marker, color=style.colour,
                           alpha=0.45, linewidths=0, clip_on=False)  # fmt: skip
        if row.empty:
            continue
        if math.isfinite(low) and math.isfinite(high):
            ax.plot([low, high], [y, y], color=style.colour, linewidth=2.4, solid_capstyle="round")
        if math.isfinite(mean):
            marker = ("<" if mean < shown[0] else ">") if lost else style.marker
            ax.plot(np.clip([mean], *shown), [y], marker, color=style.colour, markersize=8, markeredgecolor="white",
                    clip_on=False)  # fmt: skip
        if numbers:
            about = floats(row, "difference", "difference_low", "difference_high")[0]
            lead, least, most = (number(v, metric, signed=True) for v in about)
            paired = "" if name == "fixed" else lead if least == "–" else f"{lead} [{least}, {most}]"
            beside(ax, y, number(mean, metric), paired)
    if numbers:
        unit = " (points)" if is_share(metric) else ""
        beside(ax, -0.6, "mean", f"vs fixed{unit}", header=True)


def beside(ax: Axes, y: float, left: str, right: str, *, header: bool = False) -> None:
    """Two columns of text on the right of the axes."""
    for text, offset, side in ((left, 46, "right"), (right, 58, "left")):
        ax.annotate(text, (1, y), (offset, 0), xycoords=ax.get_yaxis_transform(), textcoords="offset points",
                    ha=side, va="bottom" if header else "center", size=7.5 if header else 8,
                    color=FAINT if header else INK)  # fmt: skip


def accuracy(frames: Frames) -> Figure:
    """The main task's score of every strategy."""
    task = frames.tasks[0]
    title = f"{task}: test {metric_of(frames, task)} ({better(metric_of(frames, task))})"
    names = names_of(rows_of(frames.scores, task=task))
    if not names:
        return nothing(frames, title, "no finished run")
    figure = page(frames, title, height_of(names))
    forest(figure.subplots(), frames, task, names, numbers=True)
    return figure


def auxiliary(frames: Frames) -> Figure:
    """The auxiliary tasks' scores, side by side."""
    tasks = frames.tasks[1 : 1 + MAX_FACETS]
    names = names_of(frames.scores[frames.scores["task"].isin(tasks)])
    title = "Auxiliary tasks"
    if len(tasks) == 1:
        title = f"{tasks[0]}: test {metric_of(frames, tasks[0])} ({better(metric_of(frames, tasks[0]))})"
    if not names:
        return nothing(frames, title, "no finished run with an auxiliary task")
    figure = page(frames, title, height_of(names), note=not_drawn(frames.tasks[1 + MAX_FACETS :]))
    panels = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    for ax, task in zip(panels, tasks, strict=True):
        forest(ax, frames, task, names, numbers=len(tasks) == 1)
    return figure


def cost(frames: Frames) -> Figure:
    """Throughput, and time per step relative to fixed weights."""
    look, title, data = styles(frames), "Training speed and its cost", frames.costs
    names = names_of(data)
    if not names:
        return nothing(frames, title, "not measured")
    stacks = sorted(int(k) for k in data["replicas"].unique())
    fills = {k: i == len(stacks) - 1 and len(stacks) > 1 for i, k in enumerate(stacks)}
    legend = [
        Line2D([], [], color=INK, marker="o", markersize=7, linewidth=1.6, markerfacecolor=INK if fills[k] else "white",
               label="one replica" if k == 1 else f"whole stack of {k} replicas")
        for k in stacks
    ]  # fmt: skip
    figure = page(frames, title, height_of(names), legend)
    keys = [(str(n), int(k)) for n, k in zip(data["strategy"], data["replicas"], strict=True)]
    strategy_axis((panels := figure.subplots(1, 2, sharey=True))[0], names)
    for ax, value, prefix in zip(panels, ("samples_per_second", "ratio"), ("samples", "ratio"), strict=True):
        columns = value, f"{prefix}_low", f"{prefix}_high"
        for row, (name, replicas) in zip(floats(data, *columns), keys, strict=True):
            y = names.index(name) + (
                0.44 * (stacks.index(replicas) / (len(stacks) - 1) - 0.5) if len(stacks) > 1 else 0
            )
            style, (middle, low, high) = look[name], row
            if not math.isfinite(middle):
                continue
            if math.isfinite(low) and math.isfinite(high):
                ax.plot([low, high], [y, y], color=style.colour, linewidth=2, solid_capstyle="round")
            ax.plot(middle, y, style.marker, color=style.colour, markersize=6.5,
                    markerfacecolor=style.colour if fills[replicas] else "white")  # fmt: skip
            ax.text(1.01, y, f"{middle:.2f}×" if value == "ratio" else f"{middle:,.0f}", size=7, va="center",
                    color=FAINT, transform=ax.get_yaxis_transform())  # fmt: skip
    panels[0].set_xlabel("samples per second, log scale (higher is better)")
    panels[1].set_xlabel("time per step relative to fixed (lower is better)")
    panels[1].axvline(1, color=INK, linewidth=0.9, dashes=(4, 3), zorder=1)
    panels[1].spines["left"].set_visible(False)
    if data["ratio"].max() > LOG_COSTS:
        log_axis(panels[1], "x")
        panels[1].set_xlabel("time per step relative to fixed, log scale (lower is better)")
    speeds = data["samples_per_second"].dropna()
    panels[0].set_xlim(speeds.min() / 1.3, speeds.max() * 1.15)
    log_axis(panels[0], "x")
    return figure
