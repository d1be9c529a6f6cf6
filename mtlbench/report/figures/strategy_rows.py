"""Plots with one row per strategy: scores of a task, speed and cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mtlbench.contracts.metrics import Metric
from mtlbench.records.roles import REFERENCE, TUNED, role_of
from mtlbench.report.figures.axes import MAX_FACETS, limits, log_axis, number_axis
from mtlbench.report.figures.canvas import blank, nothing
from mtlbench.report.figures.inputs import Floats, Frames, floats, rows_of
from mtlbench.report.figures.marks import mark
from mtlbench.report.figures.style import FAINT, INK, Style, base_of, names_of, shown, styles
from mtlbench.report.figures.texts import estimate, not_drawn, number, titled, wrapped

LOG_COSTS = 5  # above this cost, a linear axis would squeeze the usual ones, 1 to 2.5
PANEL = 36  # characters below one of several panels


def strategy_axis(ax: Axes, names: Sequence[str]) -> None:
    """Strategies from top to bottom on the y axis; a tuned one right below the untuned one does not repeat its name."""
    below = {b for a, b in pairwise(names) if b != base_of(b) == a}
    labels = ["… tuned" if name in below else wrapped(shown(name)) for name in names]
    ax.set(ylim=(len(names) - 0.4, -0.6), yticks=range(len(names)), yticklabels=labels)
    ax.spines["left"].set_visible(False)
    for label, name in zip(ax.get_yticklabels(), names, strict=True):
        mark(label, name)


def height_of(names: Sequence[str]) -> float:
    """Inches for axes with one row per strategy."""
    return 0.75 + len(names) * (0.4 if len(names) <= 10 else 0.3)


def forest(ax: Axes, frames: Frames, task: str, names: list[str], *, numbers: bool) -> None:
    """One row per strategy: every seed, the mean and its interval; with `numbers`, the same as text."""
    look, metric = styles(frames), frames.metric(task)
    scores, runs = (
        part[part["strategy"].isin(names) & (part["task"] == task)] for part in (frames.scores, frames.runs)
    )
    span = limits(np.concatenate([floats(scores, "mean", "low", "high").ravel(), floats(runs, "score").ravel()]))
    ax.set_xlim(*span)
    number_axis(ax, "x", metric, bins=6 if numbers else 5)
    narrow = titled(task, f" test {metric.name}", width=PANEL)
    ax.set_xlabel(f"test {metric.name}" if numbers else f"{narrow}\n({metric.direction})")
    reference = floats(rows_of(scores, strategy=REFERENCE), "mean").ravel()
    if reference.size and span[0] <= reference[0] <= span[1]:
        ax.axvline(reference[0], color=INK, linewidth=0.9, dashes=(4, 3), zorder=1)
        ax.annotate("mean of fixed", (reference[0], 1), (0, 0), xycoords=("data", "axes fraction"),
                    textcoords="offset points", size=7.5, color=FAINT, ha="center", va="bottom")  # fmt: skip
    for y, name in enumerate(names):
        row = rows_of(scores, strategy=name)
        values = floats(row, "mean", "low", "high")[0] if len(row) else np.full(3, np.nan)
        _row(ax, y, name, look[name], floats(rows_of(runs, strategy=name), "score").ravel(), values, metric)
        if numbers and len(row):
            difference = floats(row, "difference", "difference_low", "difference_high")[0]
            mean, low, high = (number(value, metric, signed=True) for value in difference)
            paired = "" if mean == "–" else mean if low == "–" else f"{mean} [{low}, {high}]"
            significant = str(row["verdict"].iloc[0]) in ("better", "worse")
            beside(ax, y, (number(values[0], metric), paired), name, significant=significant)
    if numbers:
        unit = " (points)" if metric.is_share else ""
        beside(ax, -0.6, ("mean", f"vs fixed{unit}"))


def _row(ax: Axes, y: int, name: str, style: Style, seeds: Floats, values: Floats, metric: Metric) -> None:
    """Seeds, mean and interval of a strategy; a triangle at the edge marks values off the scale."""
    span = ax.get_xlim()
    mean, low, high = values
    seeds = np.sort(seeds[np.isfinite(seeds)])
    # Multiples of the golden ratio: seeds with close scores get distant rows, the same in every drawing.
    rows = y + 0.46 * ((np.arange(seeds.size) * 0.618034 + 0.5) % 1 - 0.5) * (seeds.size > 1)
    lost = mean < span[0] or mean > span[1]  # then its seeds would cover the triangle
    tooltip = f"{shown(name)}: {estimate(values, metric)}"
    below, above = seeds < span[0], seeds > span[1]
    for marker, chosen in (("o", ~below & ~above), ("<", below), (">", above)):
        if chosen.any() and (marker == "o" or not lost):
            dots = ax.scatter(seeds[chosen].clip(*span), rows[chosen], s=15, marker=marker, color=style.colour,
                              alpha=0.45, linewidths=0, clip_on=False)  # fmt: skip
            ends = [number(float(end), metric) for end in (seeds[chosen].min(), seeds[chosen].max())]
            mark(dots, name, f"{shown(name)}, {chosen.sum()} seeds: {ends[0]} to {ends[1]}")
    if math.isfinite(low + high):
        mark(ax.plot([low, high], [y, y], color=style.colour, linewidth=2.4, solid_capstyle="round"), name, tooltip)
    if math.isfinite(mean):
        drawn = replace(style, marker="<" if mean < span[0] else ">") if lost else style
        mark(ax.plot(np.clip([mean], *span), [y], clip_on=False, **drawn.marker_look(8)), name, tooltip)


def beside(ax: Axes, y: float, texts: tuple[str, str], name: str = "", *, significant: bool = False) -> None:
    """Two columns of text to the right of the axes, or their header; a significant difference is bold."""
    colours = (INK, INK if significant else FAINT) if name else (FAINT, FAINT)
    for text, offset, side, colour in zip(texts, (46, 58), ("right", "left"), colours, strict=True):
        words = ax.annotate(text, (1, y), (offset, 0), xycoords=ax.get_yaxis_transform(), textcoords="offset points",
                            ha=side, va="center" if name else "bottom", size=8 if name else 7.5, color=colour,
                            weight="bold" if significant and side == "left" else "normal")  # fmt: skip
        if name and text:  # an empty text is not drawn, and so has no id in an SVG
            mark(words, name)


def _differences_note(frames: Frames, tasks: Sequence[str], *, numbers: bool) -> str:
    """A note on bold numbers, on the reference of tuned strategies, and on the smallest detectable difference."""
    rows = frames.scores[frames.scores["task"].isin(tasks)]
    compared = rows[rows["verdict"] != ""]
    if compared.empty:
        return ""
    note = "Bold: significant after Holm's correction." if numbers else ""
    if numbers and (compared["reference"] == f"{TUNED}:{REFERENCE}").any():
        note += " Tuned strategies (hollow) are compared with tuned fixed weights."
    smallest: list[str] = []
    for task in tasks:
        rows = rows_of(compared, task=task)
        rows = rows[[role_of(str(name)) == "strategy" for name in rows["strategy"]]]
        least = float(np.median(floats(rows, "detectable"))) if len(rows) else math.nan
        metric = frames.metric(task)
        if math.isinf(least):
            return f"{note} With so few seeds, no difference can be significant after correction."
        if math.isfinite(least):
            unit = " points" if metric.is_share else ""
            text = number(least, metric, signed=True).removeprefix("+") + unit
            smallest.append(f"{text} for {task}" if len(tasks) > 1 else text)
    power = f" Smallest difference found with 80% power (median of strategies): {', '.join(smallest)}."
    return note + power * bool(smallest)


def accuracy(frames: Frames) -> Figure:
    """The score of every strategy in the main task."""
    return _forests(frames, frames.tasks[:1], "no finished run")


def auxiliary(frames: Frames) -> Figure:
    """The scores of every strategy in the auxiliary tasks, side by side."""
    return _forests(frames, frames.tasks[1:], "no finished run with an auxiliary task")


def _forests(frames: Frames, all_tasks: Sequence[str], why_empty: str) -> Figure:
    tasks, numbers = all_tasks[:MAX_FACETS], len(all_tasks) == 1
    names = names_of(frames.scores[frames.scores["task"].isin(tasks)])
    title = "Auxiliary tasks"
    if numbers:
        metric = frames.metric(tasks[0])
        title = f"{tasks[0]}: test {metric.name} ({metric.direction})"
    if not names:
        return nothing(frames.caption, title, why_empty)
    note = f"{_differences_note(frames, tasks, numbers=numbers)} {not_drawn(all_tasks[MAX_FACETS:])}"
    figure = blank(frames.caption, title, height_of(names), note=note.strip())
    panels = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    strategy_axis(panels[0], names)
    for ax, task in zip(panels, tasks, strict=True):
        forest(ax, frames, task, names, numbers=numbers)
    return figure


def cost(frames: Frames) -> Figure:
    """Throughput, and time per step relative to fixed weights."""
    look, title, data = styles(frames), "Training speed and its cost", frames.speeds
    names = names_of(data)
    if not names:
        return nothing(frames.caption, title, "not measured")
    stacks = sorted(int(k) for k in data["replicas"].unique())
    fills = {k: i == len(stacks) - 1 and len(stacks) > 1 for i, k in enumerate(stacks)}
    legend = [
        Line2D([], [], color=INK, marker="o", markersize=7, linewidth=1.6, markerfacecolor=INK if fills[k] else "white",
               label="one replica" if k == 1 else f"whole stack of {k} replicas")
        for k in stacks
    ]  # fmt: skip
    figure = blank(frames.caption, title, height_of(names), legend)
    keys = [(str(n), int(k)) for n, k in zip(data["strategy"], data["replicas"], strict=True)]
    strategy_axis((panels := figure.subplots(1, 2, sharey=True))[0], names)
    for ax, columns, form, unit in (
        (panels[0], ("samples_per_second", "samples_low", "samples_high"), "{:,.0f}", " samples/s"),
        (panels[1], ("ratio", "ratio_low", "ratio_high"), "{:.2f}×", " the time of fixed"),
    ):
        for (middle, low, high), (name, replicas) in zip(floats(data, *columns), keys, strict=True):
            if not math.isfinite(middle):
                continue
            offset = 0.44 * (stacks.index(replicas) / (len(stacks) - 1) - 0.5) if len(stacks) > 1 else 0
            y, style, written = names.index(name) + offset, look[name], form.format(middle)
            if math.isfinite(low + high):
                mark(ax.plot([low, high], [y, y], color=style.colour, linewidth=2, solid_capstyle="round"), name)
            point = ax.plot(middle, y, style.marker, color=style.colour, markersize=6.5,
                            markerfacecolor=style.colour if fills[replicas] else "white")  # fmt: skip
            mark(point, name, f"{shown(name)}, {replicas} at once: {written}{unit}")
            text = ax.text(1.01, y, written, size=7, va="center", color=FAINT, transform=ax.get_yaxis_transform())
            mark(text, name)
    logarithmic = bool(data["ratio"].max() > LOG_COSTS)
    panels[0].set_xlabel("samples per second, log scale (higher is better)")
    panels[1].set_xlabel(f"time per step relative to fixed{', log scale' * logarithmic} (lower is better)")
    panels[1].axvline(1, color=INK, linewidth=0.9, dashes=(4, 3), zorder=1)
    panels[1].spines["left"].set_visible(False)
    if logarithmic:
        log_axis(panels[1], "x")
    speeds = data["samples_per_second"].dropna()
    panels[0].set_xlim(speeds.min() / 1.3, speeds.max() * 1.15)
    log_axis(panels[0], "x")
    return figure
