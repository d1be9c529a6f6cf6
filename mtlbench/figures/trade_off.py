"""The main score against an auxiliary score, with the names beside the points."""

from __future__ import annotations

import math

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from mtlbench.figures.axes import (
    Floats,
    better,
    floats,
    intervals_of,
    limits,
    metric_of,
    names_of,
    number,
    number_axis,
    wrapped,
)
from mtlbench.plots import FAINT, Frames, Style, nothing, page, styles

MAX_DIRECT_LABELS = 8


def trade_off(frames: Frames) -> Figure:
    """The main score against the first auxiliary score."""
    if len(frames.tasks) < 2:
        return nothing(frames, "Trade-off", "there is one task only")
    tasks = (frames.tasks[1], frames.tasks[0])  # x, y
    look, metrics = styles(frames), [metric_of(frames, task) for task in tasks]
    x, y = (intervals_of(frames, task) for task in tasks)
    names = [n for n in names_of(frames.scores, baselines=False) if n in x and n in y]
    means = {n: (float(x[n][0]), float(y[n][0])) for n in names if math.isfinite(x[n][0] + y[n][0])}
    title = f"Trade-off between {tasks[1]} and {tasks[0]}"
    if not means:
        return nothing(frames, title, "no finished run with both tasks")
    seeds = frames.runs.pivot_table(index=["strategy", "seed"], columns="task", values="score")
    seeds = seeds.reindex(columns=list(tasks)).replace([np.inf, -np.inf], np.nan).dropna()
    spans: list[tuple[float, float]] = []
    for task, found in zip(tasks, (x, y), strict=True):
        drawn = [found[n] for n in (*means, f"single:{task}") if n in found]
        spans.append(limits(np.concatenate([*drawn, floats(seeds, task).ravel()])))
    (left, right), (low, high) = spans
    points = {n: at for n, at in means.items() if left <= at[0] <= right and low <= at[1] <= high}
    away = [
        f"{n} ({number(means[n][1], metrics[1])}, {number(means[n][0], metrics[0])})" for n in means if n not in points
    ]
    dots = {n: floats(seeds[seeds.index.get_level_values("strategy") == n], *tasks) for n in points}
    missed = sum(not (left <= at[0] <= right and low <= at[1] <= high) for cloud in dots.values() for at in cloud)
    away += [f"{missed} more seed{'s' * (missed > 1)}"] if missed else []

    direct = len(points) <= MAX_DIRECT_LABELS
    legend = [] if direct else [look[n].point(wrapped(n, 44, 1)) for n in points]
    figure = page(frames, title, 4.6, legend, note=f"Off the scale: {'; '.join(away)}." if away else "")
    ax = figure.subplots()
    ax.set(xlim=(left, right), ylim=(low, high))
    for which, task, metric in zip("xy", tasks, metrics, strict=True):
        number_axis(ax, which, metric, bins=7)
        ax.set(**{f"{which}label": f"test {metric} of {task} ({better(metric)})"})
    single_x, single_y = (found.get(f"single:{task}", [math.nan])[0] for task, found in zip(tasks, (x, y), strict=True))
    if left <= single_x <= right:
        colour = look[f"single:{tasks[0]}"].colour
        ax.axvline(single_x, color=colour, linewidth=1.2, dashes=(5, 3), zorder=1)
        ax.annotate(f"single:{tasks[0]}", (single_x, 1), (0, 3), xycoords=("data", "axes fraction"),
                    textcoords="offset points", size=7.5, color=FAINT, ha="center")  # fmt: skip
    if low <= single_y <= high:
        colour = look[f"single:{tasks[1]}"].colour
        ax.axhline(single_y, color=colour, linewidth=1.2, dashes=(5, 3), zorder=1)
        ax.annotate(f"single:{tasks[1]}", (1, single_y), (3, 0), xycoords=("axes fraction", "data"),
                    textcoords="offset points", size=7.5, color=FAINT, va="center")  # fmt: skip
    for name, at in points.items():
        style, width = look[name], 1.8 if direct else 0.8
        ax.scatter(*dots[name].T, s=13, color=style.colour, alpha=0.28, linewidths=0)
        ax.plot(x[name][1:], [at[1]] * 2, color=style.colour, linewidth=width)
        ax.plot([at[0]] * 2, y[name][1:], color=style.colour, linewidth=width)
        ax.plot(*at, style.marker, color=style.colour, markersize=9, markeredgecolor="white", zorder=3)
    if direct:
        figure.draw_without_rendering()
        label_points(ax, points, look)
    return figure


def label_points(ax: Axes, points: dict[str, tuple[float, float]], look: dict[str, Style]) -> None:
    """Write each name near its point, where it covers the least."""
    figure = ax.figure
    assert isinstance(figure, Figure)
    renderer = FigureCanvasAgg(figure).get_renderer()
    inner, pixels = ax.get_window_extent(renderer).padded(-4), figure.dpi / 72
    obstacles: list[Floats] = [ax.transData.transform(list(points.values())).repeat(8, axis=0)]
    obstacles += [ax.transData.transform(np.asarray(dots.get_offsets(), dtype=float)) for dots in ax.collections]
    for line in ax.lines:
        ends = line.get_transform().transform(np.asarray(line.get_xydata(), dtype=float))
        obstacles.append(np.linspace(ends[0], ends[-1], 80))
    covered = np.concatenate(obstacles)
    taken: list[Bbox] = []
    leader = {"arrowstyle": "-", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 5}
    for name, point in points.items():
        colour = sns.set_hls_values(look[name].colour, l=0.32)
        text = ax.annotate(wrapped(name), point, (0, 0), textcoords="offset points", size=8.5, ha="center", va="center",
                           color=colour, weight="bold", linespacing=1.0, in_layout=False)  # fmt: skip
        box = text.get_window_extent(renderer)
        best = (math.inf, 0.0, 0.0, box)
        for radius in (8, 14, 22, 34, 48, 64, 84):
            for angle in np.arange(16) * math.pi / 8:
                dx = math.cos(angle) * (radius * pixels + box.width / 2)
                dy = math.sin(angle) * (radius * pixels + box.height / 2)
                there = box.translated(dx, dy)
                hidden = int(there.padded(2).count_contains(covered))
                clashes = sum(there.padded(3).overlaps(other) for other in taken)
                outside = not (inner.contains(there.x0, there.y0) and inner.contains(there.x1, there.y1))
                best = min(best, (radius + 3 * hidden + 1000 * (clashes + outside), dx, dy, there), key=lambda b: b[0])
        _, dx, dy, there = best
        text.set_position((dx / pixels, dy / pixels))
        x, y = ax.transData.transform(point)
        edge = (min(max(x, there.x0), there.x1), min(max(y, there.y0 + 2), there.y1 - 2))
        if math.hypot(edge[0] - x, edge[1] - y) > 13 * pixels:
            ax.annotate("", point, (edge[0] / pixels, edge[1] / pixels), textcoords="figure points", in_layout=False,
                        arrowprops=leader | {"color": colour})  # fmt: skip
        taken.append(there)
