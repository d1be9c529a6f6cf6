"""The main score against an auxiliary score, with the front of fixed weights and names beside the points."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch

from mtlbench.contracts.metrics import Metric
from mtlbench.records.roles import FRONT, REFERENCE, role_of
from mtlbench.report.figures.axes import limits, number_axis
from mtlbench.report.figures.canvas import blank, mark_legend, nothing, settle
from mtlbench.report.figures.inputs import Floats, Frames, floats, rows_of
from mtlbench.report.figures.marks import mark
from mtlbench.report.figures.point_names import Place, PointName, label_points
from mtlbench.report.figures.style import FAINT, FEW, INK, Style, base_of, names_of, shown, styles
from mtlbench.report.figures.texts import estimate, filled, number, wrapped

ARROWS = 12  # largest number of strategies with arrows to their tuned settings
LEAST = 3  # smallest number of points of a front
FRONT_GREY = "#8f8f8f"
LABEL_WIDTH = 64  # characters on a line beside an axis

Spans = tuple[tuple[float, float], tuple[float, float]]


@dataclass
class _Data:
    """The data of the plot: tasks as (x, y), intervals by label in each, scores by seed, and labels with both means."""

    tasks: tuple[str, str]
    metrics: tuple[Metric, Metric]
    x: dict[str, Floats]
    y: dict[str, Floats]
    seeds: pd.DataFrame
    names: list[str]
    front: dict[float, str]  # labels by the share of the main task, in its order

    def at(self, name: str) -> tuple[float, float]:
        return float(self.x[name][0]), float(self.y[name][0])

    def text(self, name: str, written: str) -> str:
        """The label as `written`, with its scores, main task first."""
        (x, y), (of_x, of_y) = self.at(name), self.metrics
        return f"{written} ({number(y, of_y)}, {number(x, of_x)})"

    def tooltip(self, name: str) -> str:
        parts = zip(self.tasks[::-1], (self.y, self.x), self.metrics[::-1], strict=True)
        texts = (f"{task} {estimate(scores[name], metric)}" for task, scores, metric in parts if name in scores)
        return f"{shown(name)}: {', '.join(texts)}"


def trade_off(frames: Frames) -> Figure:
    """The main score against the first auxiliary score."""
    if len(frames.tasks) < 2:
        return nothing(frames.caption, "Trade-off", "there is one task only")
    data = _data(frames)
    if not data.names:
        return nothing(frames.caption, _title(data.tasks), "no finished run with both tasks")
    figure, fits = _draw(frames, data, direct=True)
    return figure if fits else _draw(frames, data, direct=False)[0]


def _title(tasks: tuple[str, str]) -> str:
    return f"Trade-off between {wrapped(tasks[1], 32, 1)} and {wrapped(tasks[0], 32, 1)}"


def _data(frames: Frames) -> _Data:
    tasks = (frames.tasks[1], frames.tasks[0])
    x, y = (_intervals(frames, task) for task in tasks)
    both = {name for name in x if name in y and math.isfinite(x[name][0] + y[name][0])}
    seeds = frames.runs.pivot_table(index=["strategy", "seed"], columns="task", values="score")
    seeds = seeds.reindex(columns=list(tasks)).replace([np.inf, -np.inf], np.nan).dropna()
    names = [name for name in names_of(frames.scores, baselines=False) if name in both]
    front = {float(name.partition(":")[2]): name for name in both if role_of(name) == FRONT}
    if len(front) >= LEAST and REFERENCE in both:
        front[0.5] = REFERENCE
    front = dict(sorted(front.items())) if len(front) >= LEAST else {}
    return _Data(tasks, (frames.metric(tasks[0]), frames.metric(tasks[1])), x, y, seeds, names, front)


def _intervals(frames: Frames, task: str) -> dict[str, Floats]:
    """Mean and interval, `[3]`, of each strategy in one task."""
    rows = rows_of(frames.scores, task=task)
    return dict(zip(map(str, rows["strategy"]), floats(rows, "mean", "low", "high"), strict=True))


def _spans(data: _Data, *, few: bool) -> Spans:
    """Limits around the strategies, extended to points of the front that are near."""
    spans: list[tuple[float, float]] = []
    for task, scores in zip(data.tasks, (data.x, data.y), strict=True):
        drawn = [scores[name] for name in (*data.names, f"single:{task}") if name in scores]
        shown_seeds = data.seeds[data.seeds.index.isin(data.names if few else [], level="strategy")]
        values = np.concatenate([*drawn, floats(shown_seeds, task).ravel()])
        spans.append(limits(values, 12 if few else 6))  # names need more room than points
    (left, right), (low, high) = spans
    dx, dy = 0.3 * (right - left), 0.3 * (high - low)
    near = np.array([
        (x, y) for x, y in map(data.at, data.front.values())
        if left - dx <= x <= right + dx and low - dy <= y <= high + dy
    ]).reshape(-1, 2)  # fmt: skip
    xs, ys = near.T
    x, y = 0.15 * dx, 0.15 * dy
    return (min(left, *xs - x, left), max(right, *xs + x, right)), (min(low, *ys - y, low), max(high, *ys + y, high))


def _draw(frames: Frames, data: _Data, *, direct: bool) -> tuple[Figure, bool]:
    """The figure, with names beside the points or in a legend, and True if there was room for every name."""
    look, few = styles(frames), len(data.names) <= FEW
    spans = _spans(data, few=few)
    points = [name for name in data.names if _within(data.at(name), spans)]
    seeds = data.seeds.groupby("strategy", sort=False)
    clouds = {str(name): floats(rows, *data.tasks) for name, rows in seeds if few and name in points}
    figure = blank(frames.caption, _title(data.tasks), 4.6 if few else 6.0, _legend(data, points, look, direct=direct),
                  note=_note(data, points, spans, clouds))  # fmt: skip
    if not direct:
        mark_legend(figure, points)
    ax = figure.subplots()
    ax.set(xlim=spans[0], ylim=spans[1])
    for which, task, metric in zip("xy", data.tasks, data.metrics, strict=True):
        number_axis(ax, which, metric, bins=7)
        label = filled(f"test {metric.name}", f" of {task}", f" ({metric.direction})", width=LABEL_WIDTH)
        ax.set(**{f"{which}label": "\n".join(line.strip() for line in label)})
    _baselines(ax, data, look)
    _front(ax, data)
    arrows: list[tuple[Place, Place]] = []
    few_enough = sum(role_of(name) == "strategy" for name in points) <= ARROWS
    for name in points:
        style, width, at, tooltip = look[name], 1.8 if few else 0.8, data.at(name), data.tooltip(name)
        if name in clouds:
            cloud = ax.scatter(*clouds[name].T, s=13, color=style.colour, alpha=0.28, linewidths=0)
            mark(cloud, name, f"{shown(name)}, {len(clouds[name])} seeds")
        for ends in ((data.x[name][1:], [at[1]] * 2), ([at[0]] * 2, data.y[name][1:])):
            mark(ax.plot(*ends, color=style.colour, linewidth=width, alpha=1 if few else 0.6), name, tooltip)
        mark(ax.plot(*at, **style.marker_look(9 if few else 7), zorder=3), name, tooltip)
        if few_enough and style.hollow and base_of(name) in points:
            arrows.append((data.at(base_of(name)), at))
            arrow = FancyArrowPatch(*arrows[-1], arrowstyle="->", mutation_scale=8, shrinkA=5, shrinkB=5,
                                    color=style.colour, linewidth=0.9, zorder=2.6)  # fmt: skip
            mark(ax.add_patch(arrow), name, tooltip)
    settle(figure)
    size = 8.5 if few else 7.5
    named = [n for n in points if not look[n].hollow or base_of(n) not in points] if direct else []
    labels = [PointName(wrapped(shown(n)), data.at(n), look[n].ink, size, n) for n in named]
    return figure, label_points(ax, labels + _share_labels(data, spans), arrows)


def _within(at: tuple[float, float], spans: Spans) -> bool:
    return all(low <= value <= high for value, (low, high) in zip(at, spans, strict=True))


def _legend(data: _Data, points: list[str], look: dict[str, Style], *, direct: bool) -> list[Line2D]:
    """Names that are not beside their points, the meaning of hollow markers, and the front."""
    legend = [] if direct else [look[name].point(wrapped(shown(name), 44, 1)) for name in points]
    if direct and any(look[name].hollow for name in points):
        legend.append(Style(INK, hollow=True).point("tuned settings, in the colour of the strategy"))
    if data.front:
        first, last = min(data.front), max(data.front)
        legend.append(
            Line2D([], [], color=FRONT_GREY, marker="o", markersize=3.5, linewidth=1.2,
                   label=f"fixed weights, main-task share {first:g} to {last:g}")
        )  # fmt: skip
    return legend


def _note(data: _Data, points: list[str], spans: Spans, clouds: dict[str, Floats]) -> str:
    """A note on the best corner, and on strategies, seeds and shares off the scale."""
    x, y = (metric.higher_is_better for metric in data.metrics)
    note = f"Best is the {'upper' if y else 'lower'} {'right' if x else 'left'} corner."
    away = [data.text(name, shown(name)) for name in data.names if name not in points]
    missed = sum(not _within((at[0], at[1]), spans) for cloud in clouds.values() for at in cloud)
    away += [f"{missed} more seed{'s' * (missed > 1)}"] if missed else []
    note += f" Off the scale: {'; '.join(away)}." if away else ""
    ends = [data.text(name, f"{share:g}") for share, name in data.front.items()
            if name != REFERENCE and not _within(data.at(name), spans)]  # fmt: skip
    return f"{note} Main-task shares off the scale: {'; '.join(ends)}." if ends else note


def _front(ax: Axes, data: _Data) -> None:
    """A line through the sweep of fixed weights, behind everything; it leaves the axes towards points outside."""
    if not data.front:
        return
    at = np.array([data.at(name) for name in data.front.values()])
    mark(ax.plot(*at.T, color=FRONT_GREY, linewidth=1.2, zorder=1.2), FRONT, "fixed weights of other shares")
    for share, name in data.front.items():
        if name == REFERENCE:
            continue
        tooltip = f"fixed weights, main-task share {share:g}: {data.tooltip(name).partition(': ')[2]}"
        x, y = data.at(name)
        for ends in ((data.x[name][1:], [y, y]), ([x, x], data.y[name][1:])):
            mark(ax.plot(*ends, color=FRONT_GREY, linewidth=0.6, alpha=0.7, zorder=1.2), FRONT, tooltip)
        mark(ax.plot(x, y, "o", color=FRONT_GREY, markersize=3.5, zorder=1.3), FRONT, tooltip)


def _share_labels(data: _Data, spans: Spans) -> list[PointName]:
    """Shares beside a few points of the front: its ends on the scale, and some in between."""
    shares = [share for share, name in data.front.items() if name != REFERENCE and _within(data.at(name), spans)]
    chosen = sorted({round(i) for i in np.linspace(0, len(shares) - 1, min(5, len(shares)))})
    chosen.sort(key=lambda i: i not in (0, len(shares) - 1))  # the ends first, so that they get their places
    return [PointName(f"{shares[i]:g}", data.at(data.front[shares[i]]), FAINT, 7, FRONT, needed=False) for i in chosen]


def _baselines(ax: Axes, data: _Data, look: dict[str, Style]) -> None:
    """A dashed line for each task trained alone, if it is on the scale."""
    limits_of_axes = (ax.get_xlim(), ax.get_ylim())
    for task, scores, (low, high), which in zip(data.tasks, (data.x, data.y), limits_of_axes, "xy", strict=True):
        name = f"single:{task}"
        value = float(scores[name][0]) if name in scores else math.nan
        if not low <= value <= high:
            continue
        draw = ax.axvline if which == "x" else ax.axhline
        mark(draw(value, color=look[name].colour, linewidth=1.2, dashes=(5, 3), zorder=1), name, data.tooltip(name))
        at, coords = (
            ((value, 1), ("data", "axes fraction")) if which == "x" else ((1, value), ("axes fraction", "data"))
        )
        text = ax.annotate(wrapped(name, 26, 1), at, (0, 3) if which == "x" else (3, 0), xycoords=coords,
                           textcoords="offset points", size=7.5, color=FAINT, ha="center" if which == "x" else "left",
                           va="bottom" if which == "x" else "center")  # fmt: skip
        mark(text, name)
