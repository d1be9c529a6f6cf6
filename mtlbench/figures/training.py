"""Plots over the course of training: learning curves and effective weights.

Bands (smallest to largest value of the seeds) are taken here, while drawing.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtlbench.figures.axes import (
    MAX_FACETS,
    Floats,
    better,
    epoch_axis,
    floats,
    limits,
    log_axis,
    metric_of,
    names_of,
    not_drawn,
    number_axis,
    rows_of,
    wrapped,
)
from mtlbench.figures.ranked import LINE, Ends, extremes, many_lines, name_ends
from mtlbench.plots import DASHES, FEW, INK, Frames, Style, is_baseline, nothing, page, styles


def band_lines(ax: Axes, data: pd.DataFrame, column: str, look: dict[str, Style], by: str = "strategy") -> Floats:
    """One line per value of `by`: mean over seeds, and the band to the smallest and largest; returns the bands."""
    data = data.assign(epoch=data["epoch"].round(6)).groupby([by, "epoch"])[column].agg(["mean", "min", "max"])
    data = data.reset_index()
    names = [name for name in look if name in set(data[by])]
    few = data["epoch"].nunique() <= 8
    sns.lineplot(
        data=data, x="epoch", y="mean", hue=by, style=by, hue_order=names, style_order=names, estimator=None,
        palette={n: look[n].colour for n in names}, dashes={n: look[n].dashes for n in names},
        markers={n: look[n].marker for n in names} if few else False, linewidth=1.6, legend=False, ax=ax,
    )  # fmt: skip
    for name in names if sum(not is_baseline(name) for name in names) <= FEW else ():
        band = rows_of(data, **{by: name})
        if (band["max"] > band["min"]).any():
            ax.fill_between(band["epoch"], band["min"], band["max"], color=look[name].colour, alpha=0.12, linewidth=0)
    return floats(data, "min", "max").ravel()


def curves(frames: Frames) -> Figure:
    """Validation scores above, training losses below, one column per task."""
    look, title = styles(frames), "Learning curves"
    data = frames.curves.replace([np.inf, -np.inf], np.nan)
    data = data[data["task"].isin(frames.tasks) & data["strategy"].isin(look)]
    data = data.dropna(subset=["score", "loss"], how="all")
    names = [name for name in look if name in names_of(data)]
    if not names:
        return nothing(frames, title, "not recorded")
    few = len([name for name in names if not is_baseline(name)]) <= FEW
    tasks = frames.tasks[: MAX_FACETS if few else 2]
    legend = [look[n].line(wrapped(n, 44, 1)) for n in names] if few else []
    above_height = 2.7 if few else 0.5 + len(names) * LINE / 72
    figure = page(frames, title, above_height + 2.7, legend, not_drawn(frames.tasks[len(tasks) :]))
    panels = figure.subplots(2, len(tasks), squeeze=False, sharex=True, height_ratios=[above_height, 2.7])
    named: list[Ends] = []
    for (above, below), task in zip(panels.T, tasks, strict=True):
        metric, own = metric_of(frames, task), data[data["task"] == task]
        validation = own[own["split"] == "validation"].dropna(subset="score")
        training = own[(own["split"] == "training") & (own["loss"] > 0)]
        if few:
            if len(validation):
                above.set_ylim(*limits(band_lines(above, validation, "score", look)))
            if len(training):
                band_lines(below, training, "loss", look)
        else:
            marked = extremes(validation, "score", higher_is_better=metric == "accuracy") if len(validation) else []
            for ax, part, column in ((above, validation, "score"), (below, training, "loss")):
                if len(part):
                    log = column == "loss"
                    named.append(many_lines(ax, part, column, look, marked, log=log, metric=metric))
        if len(training):
            log_axis(below, "y")
        number_axis(above, "y", metric)
        gap = "\n" if len(tasks) > 2 else " "
        above.set_title(f"{task}: validation {metric}{gap}({better(metric)})", size=9)
        below.set_title(f"{task}: training loss (log scale)", size=9)
        above.set(xlabel="", ylabel="")
        below.set(xlabel="epochs", ylabel="")
        epoch_axis(below, data)
    if named:
        figure.draw_without_rendering()
        for ends in named:
            name_ends(ends)
    return figure


def weights(frames: Frames) -> Figure:
    """Effective weights during training, one panel per strategy, one kind of line per task."""
    look, title, tasks = styles(frames), "Effective weight of each task's loss", frames.tasks[: len(DASHES)]
    data = frames.curves.replace([np.inf, -np.inf], np.nan).dropna(subset="weight")
    data = data[(data["split"] == "training") & data["task"].isin(tasks)]
    names = [name for name in look if name in names_of(data, baselines=False)]
    if not names:
        return nothing(frames, title, "not recorded")
    lines = dict(zip(tasks, DASHES, strict=False))
    legend = [Style(INK, dashes=lines[task]).line(task) for task in tasks]
    columns = min(len(names), 3 if len(names) <= 9 else 4)
    rows = math.ceil(len(names) / columns)
    figure = page(
        frames,
        title,
        0.4 + rows * (2.3 if rows == 1 else 1.7 if rows < 4 else 1.3),
        legend,
        not_drawn(frames.tasks[len(DASHES) :]),
    )
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for ax, name in zip(panels, names, strict=False):
        ax.axhline(1, color="#c4c4c4", linewidth=0.9, zorder=0.5)
        kinds = {task: Style(look[name].colour, "o", dashes) for task, dashes in lines.items()}
        band_lines(ax, rows_of(data, strategy=name), "weight", kinds, by="task")
        ax.set_title(
            wrapped(name, 26 if columns == 4 else 34),
            size=7.5 if columns == 4 else 8.5,
            color=sns.set_hls_values(look[name].colour, l=0.32),
            weight="bold",
        )
        ax.set(xlabel="", ylabel="")
    for i, ax in enumerate(panels):
        if i >= len(names):
            ax.remove()
        elif i >= len(names) - columns:
            ax.set_xlabel("epochs", visible=True)
            ax.tick_params(labelbottom=True)
        if i % columns == 0:
            ax.set_ylabel("weight")
    shown = data if len(names) <= FEW else data.groupby(["strategy", "task", "epoch"], as_index=False)["weight"].mean()
    smallest, largest = float(shown["weight"].min()), float(shown["weight"].max())
    if 0 < 20 * smallest < largest:
        if len(names) > FEW:  # one band that is wide must not press all lines together
            panels[0].set_ylim(smallest / 1.3, largest * 1.3)
        log_axis(panels[0], "y")
    elif smallest >= 0:
        panels[0].set_ylim(0, 1.06 * max(largest, 1.0))
    epoch_axis(panels[0], data)
    return figure
