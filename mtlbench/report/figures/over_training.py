"""Plots over the course of training: learning curves and effective weights."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtlbench.report.figures.axes import MAX_FACETS, epoch_axis, limits, log_axis, number_axis
from mtlbench.report.figures.canvas import blank, even_panels, mark_legend, nothing, settle
from mtlbench.report.figures.inputs import Floats, Frames, floats, rows_of
from mtlbench.report.figures.many_lines import LINE, Ends, extremes, many_lines, name_ends
from mtlbench.report.figures.marks import mark
from mtlbench.report.figures.style import DASHES, FEW, INK, Style, is_baseline, names_of, shown, styles
from mtlbench.report.figures.texts import not_drawn, titled, wrapped

TITLE_WIDTH = 100  # characters above all panels of a row


def band_lines(ax: Axes, data: pd.DataFrame, column: str, look: dict[str, Style], strategy: str = "") -> Floats:
    """One line per strategy, the mean over seeds, with a band from the smallest to the largest; returns the bands.

    With a `strategy`, there is one line per task instead, and `look` has the styles of the tasks.
    """
    by = "task" if strategy else "strategy"
    data = data.assign(epoch=data["epoch"].round(6)).groupby([by, "epoch"])[column].agg(["mean", "min", "max"])
    data = data.reset_index()
    names = [name for name in look if name in set(data[by])]
    few = data["epoch"].nunique() <= 8
    with_band = sum(not is_baseline(name) for name in names) <= FEW
    for name in names:
        style, label = look[name], strategy or name
        epochs, mean, low, high = floats(rows_of(data, **{by: name}), "epoch", "mean", "min", "max").T
        tooltip = shown(label) + f", {name}" * bool(strategy)
        line = ax.plot(epochs, mean, color=style.colour, linewidth=1.6, marker=style.marker if few else "",
                       markeredgecolor="white", markeredgewidth=0.75)  # fmt: skip
        if style.dashes:
            line[0].set_dashes(style.dashes)
        mark(line, label, tooltip)
        if with_band and (high > low).any():
            mark(ax.fill_between(epochs, low, high, color=style.colour, alpha=0.12, linewidth=0), label, tooltip)
    return floats(data, "min", "max").ravel()


def curves(frames: Frames) -> Figure:
    """Validation scores at the top, training losses at the bottom, one column per task."""
    look, title = styles(frames), "Learning curves"
    data = frames.curves.replace([np.inf, -np.inf], np.nan)
    data = data[data["task"].isin(frames.tasks) & data["strategy"].isin(look)]
    data = data.dropna(subset=["score", "loss"], how="all")
    names = [name for name in look if name in names_of(data)]
    if not names:
        return nothing(frames.caption, title, "not recorded")
    few = sum(not is_baseline(name) for name in names) <= FEW
    tasks = frames.tasks[: MAX_FACETS if few else 2]
    legend = [look[n].line(wrapped(shown(n), 44, 1)) for n in names] if few else []
    above_height = 2.7 if few else 0.5 + len(names) * LINE / 72
    figure = blank(frames.caption, title, above_height + 2.7, legend, not_drawn(frames.tasks[len(tasks) :]))
    mark_legend(figure, names)
    panels = figure.subplots(2, len(tasks), squeeze=False, sharex=True, height_ratios=[above_height, 2.7])
    named: list[Ends] = []
    for (above, below), task in zip(panels.T, tasks, strict=True):
        metric, rows = frames.metric(task), data[data["task"] == task]
        validation = rows[rows["split"] == "validation"].dropna(subset="score")
        training = rows[(rows["split"] == "training") & (rows["loss"] > 0)]
        if few:
            if len(validation):
                above.set_ylim(*limits(band_lines(above, validation, "score", look)))
            if len(training):
                band_lines(below, training, "loss", look)
        else:
            marked = extremes(validation, "score", higher_is_better=metric.higher_is_better) if len(validation) else []
            for ax, part, column in ((above, validation, "score"), (below, training, "loss")):
                if len(part):
                    named.append(many_lines(ax, part, column, look, marked, column == "loss", metric))
        if len(training):
            log_axis(below, "y")
        number_axis(above, "y", metric)
        width = TITLE_WIDTH // len(tasks)
        above.set_title(titled(task, f" validation {metric.name}", f" ({metric.direction})", width=width), size=9)
        below.set_title(titled(task, " training loss", " (log scale)", width=width), size=9)
        above.set(xlabel="", ylabel="")
        below.set(xlabel="epochs", ylabel="")
        epoch_axis(below, data)
    if named:
        settle(figure)
        for ends in named:
            name_ends(ends)
    return figure


def weights(frames: Frames) -> Figure:
    """Effective weights during training, one panel per strategy, one kind of line per task."""
    look, heading, tasks = styles(frames), "Effective weight of each task's loss", frames.tasks[: len(DASHES)]
    data = frames.curves.replace([np.inf, -np.inf], np.nan).dropna(subset="weight")
    data = data[(data["split"] == "training") & data["task"].isin(tasks)]
    names = [name for name in look if name in names_of(data, baselines=False)]
    if not names:
        return nothing(frames.caption, heading, "not recorded")
    lines = dict(zip(tasks, DASHES, strict=False))
    legend = [Style(INK, dashes=lines[task]).line(task) for task in tasks]
    columns = min(len(names), 3 if len(names) <= 9 else 4)
    rows = math.ceil(len(names) / columns)
    height = 0.4 + rows * (2.3 if rows == 1 else 1.7 if rows < 4 else 1.3)
    figure = blank(frames.caption, heading, height, legend, not_drawn(frames.tasks[len(DASHES) :]))
    means = data if len(names) <= FEW else data.groupby(["strategy", "task", "epoch"], as_index=False)["weight"].mean()
    span = (float(means["weight"].min()), float(means["weight"].max()))
    # All panels have the same limits; shared axes would notify each other of every change, which is slow.
    panels = even_panels(figure, rows, columns)
    for i, (ax, name) in enumerate(zip(panels, names, strict=False)):
        _weight_axes(ax, data, span, few=len(names) <= FEW)
        ax.axhline(1, color="#c4c4c4", linewidth=0.9, zorder=0.5)
        kinds = {task: Style(look[name].colour, "o", dashes) for task, dashes in lines.items()}
        band_lines(ax, rows_of(data, strategy=name), "weight", kinds, strategy=name)
        title = ax.set_title(wrapped(shown(name), 26 if columns == 4 else 34), size=7.5 if columns == 4 else 8.5,
                             color=look[name].ink, weight="bold")  # fmt: skip
        mark(title, name)
        first, last = i % columns == 0, i >= len(names) - columns
        ax.set(xlabel="epochs" if last else "", ylabel="weight" if first else "")
        ax.tick_params(labelleft=first, labelbottom=last)
    for ax in panels[len(names) :]:
        ax.remove()
    return figure


def _weight_axes(ax: Axes, data: pd.DataFrame, span: tuple[float, float], *, few: bool) -> None:
    """Axes of a panel of weights, with a log scale if they span a factor of 20."""
    smallest, largest = span
    epoch_axis(ax, data)
    if 0 < 20 * smallest < largest:
        # One wide band must not squeeze the lines of many panels: `span` is that of the means.
        margin = 1.15 if few else 1.3
        ax.set_ylim(smallest / margin, largest * margin)
        log_axis(ax, "y")
        return
    margin = 0.06 * (largest - smallest) or 0.1
    ax.set_ylim((0, 1.06 * max(largest, 1.0)) if smallest >= 0 else (smallest - margin, largest + margin))
