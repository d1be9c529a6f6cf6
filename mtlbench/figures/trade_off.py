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
from mtlbench.plots import FAINT, FEW, Frames, Style, nothing, page, styles

CLASH = 100_000
"""More than any number of points that a name can cover."""


def trade_off(frames: Frames) -> Figure:
    """The main score against the first auxiliary score."""
    if len(frames.tasks) < 2:
        return nothing(frames, "Trade-off", "there is one task only")
    tasks = (frames.tasks[1], frames.tasks[0])  # x, y
    x, y = (intervals_of(frames, task) for task in tasks)
    names = [n for n in names_of(frames.scores, baselines=False) if n in x and n in y]
    means = {n: (float(x[n][0]), float(y[n][0])) for n in names if math.isfinite(x[n][0] + y[n][0])}
    if not means:
        return nothing(frames, _title(tasks), "no finished run with both tasks")
    few = len(means) <= FEW
    figure, fits = _draw(frames, tasks, (x, y), means, few=few, direct=True)
    return figure if fits else _draw(frames, tasks, (x, y), means, few=few, direct=False)[0]


def _title(tasks: tuple[str, str]) -> str:
    return f"Trade-off between {tasks[1]} and {tasks[0]}"


def _draw(
    frames: Frames,
    tasks: tuple[str, str],
    found: tuple[dict[str, Floats], dict[str, Floats]],
    means: dict[str, tuple[float, float]],
    *,
    few: bool,
    direct: bool,
) -> tuple[Figure, bool]:
    """The figure, with names beside the points or in a legend; and whether each name found a place."""
    look, metrics, (x, y) = styles(frames), [metric_of(frames, task) for task in tasks], found
    seeds = frames.runs.pivot_table(index=["strategy", "seed"], columns="task", values="score")
    seeds = seeds.reindex(columns=list(tasks)).replace([np.inf, -np.inf], np.nan).dropna()
    spans: list[tuple[float, float]] = []
    for task, intervals in zip(tasks, found, strict=True):
        drawn = [intervals[n] for n in (*means, f"single:{task}") if n in intervals]
        values = np.concatenate([*drawn, floats(seeds, task).ravel() if few else np.empty(0)])
        spans.append(limits(values, 12 if few else 6))  # names need more room than points
    (left, right), (low, high) = spans
    points = {n: at for n, at in means.items() if left <= at[0] <= right and low <= at[1] <= high}
    away = [
        f"{n} ({number(means[n][1], metrics[1])}, {number(means[n][0], metrics[0])})" for n in means if n not in points
    ]
    dots = {n: floats(seeds[seeds.index.get_level_values("strategy") == n], *tasks) for n in points if few}
    missed = sum(not (left <= at[0] <= right and low <= at[1] <= high) for cloud in dots.values() for at in cloud)
    away += [f"{missed} more seed{'s' * (missed > 1)}"] if missed else []

    legend = [] if direct else [look[n].point(wrapped(n, 44, 1)) for n in points]
    note = f"Off the scale: {'; '.join(away)}." if away else ""
    figure = page(frames, _title(tasks), 4.6 if few else 6.0, legend, note=note)
    ax = figure.subplots()
    ax.set(xlim=(left, right), ylim=(low, high))
    for which, task, metric in zip("xy", tasks, metrics, strict=True):
        number_axis(ax, which, metric, bins=7)
        ax.set(**{f"{which}label": f"test {metric} of {task} ({better(metric)})"})
    _baselines(ax, tasks, found, look)
    for name, at in points.items():
        style, width = look[name], 1.8 if few else 0.8
        if name in dots:
            ax.scatter(*dots[name].T, s=13, color=style.colour, alpha=0.28, linewidths=0)
        ax.plot(x[name][1:], [at[1]] * 2, color=style.colour, linewidth=width, alpha=1 if few else 0.6)
        ax.plot([at[0]] * 2, y[name][1:], color=style.colour, linewidth=width, alpha=1 if few else 0.6)
        ax.plot(*at, style.marker, color=style.colour, markersize=9 if few else 7, markeredgecolor="white", zorder=3)
    if not direct:
        return figure, True
    figure.draw_without_rendering()
    return figure, label_points(ax, points, look, 8.5 if few else 7.5)


def _baselines(
    ax: Axes, tasks: tuple[str, str], found: tuple[dict[str, Floats], dict[str, Floats]], look: dict[str, Style]
) -> None:
    """A dashed line for each task trained alone, where it lies on the scale."""
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    x, y = (rows.get(f"single:{task}", [math.nan])[0] for task, rows in zip(tasks, found, strict=True))
    if left <= x <= right:
        ax.axvline(x, color=look[f"single:{tasks[0]}"].colour, linewidth=1.2, dashes=(5, 3), zorder=1)
        ax.annotate(f"single:{tasks[0]}", (x, 1), (0, 3), xycoords=("data", "axes fraction"),
                    textcoords="offset points", size=7.5, color=FAINT, ha="center")  # fmt: skip
    if low <= y <= high:
        ax.axhline(y, color=look[f"single:{tasks[1]}"].colour, linewidth=1.2, dashes=(5, 3), zorder=1)
        ax.annotate(f"single:{tasks[1]}", (1, y), (3, 0), xycoords=("axes fraction", "data"),
                    textcoords="offset points", size=7.5, color=FAINT, va="center")  # fmt: skip


def label_points(ax: Axes, points: dict[str, tuple[float, float]], look: dict[str, Style], size: float) -> bool:
    """Write each name near its point, where it covers the least; whether each found a place of its own."""
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
        text = ax.annotate(wrapped(name), point, (0, 0), textcoords="offset points", size=size, ha="center",
                           va="center", color=colour, weight="bold", linespacing=1.0, in_layout=False)  # fmt: skip
        box = text.get_window_extent(renderer)
        x, y = ax.transData.transform(point)
        best = (math.inf, 0.0, 0.0, box, covered[:0])
        for radius in (8, 14, 22, 34, 48, 64, 84):
            for angle in np.arange(16) * math.pi / 8:
                dx = math.cos(angle) * (radius * pixels + box.width / 2)
                dy = math.sin(angle) * (radius * pixels + box.height / 2)
                there = box.translated(dx, dy)
                edge = (min(max(x, there.x0), there.x1), min(max(y, there.y0 + 2), there.y1 - 2))
                far = math.hypot(edge[0] - x, edge[1] - y) > 13 * pixels
                link = np.linspace(edge, (x, y), 20 if far else 0)
                hidden = int(there.padded(2).count_contains(covered))
                hidden += sum(int(other.count_contains(link)) for other in taken)
                clashes = sum(there.padded(5, 3).overlaps(other) for other in taken)
                outside = not (inner.contains(there.x0, there.y0) and inner.contains(there.x1, there.y1))
                badness = radius + 3 * hidden + CLASH * (clashes + outside)
                best = min(best, (badness, dx, dy, there, link), key=lambda b: b[0])
        badness, dx, dy, there, link = best
        if badness >= CLASH:
            return False
        text.set_position((dx / pixels, dy / pixels))
        if len(link):
            ax.annotate("", point, tuple(link[0] / pixels), textcoords="figure points", in_layout=False,
                        arrowprops=leader | {"color": colour})  # fmt: skip
            covered = np.concatenate([covered, link])
        taken.append(there)
    return True
