"""The main score against an auxiliary score, with what fixed weights reach behind it, and names beside the points."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch

from mtlbench.contracts.metrics import Metric
from mtlbench.records.roles import FRONT, REFERENCE, role_of
from mtlbench.report.figures.axes import (
    Floats,
    estimate,
    filled,
    floats,
    intervals_of,
    limits,
    metric_of,
    names_of,
    number,
    number_axis,
    wrapped,
)
from mtlbench.report.figures.canvas import mark_legend, nothing, page, settle
from mtlbench.report.figures.inputs import Frames
from mtlbench.report.figures.marks import mark, mark_all
from mtlbench.report.figures.point_names import Label, Place, label_points
from mtlbench.report.figures.style import FAINT, FEW, INK, Style, base_of, shown, styles

ARROWS = 12  # strategies up to which arrows lead to their tuned settings
LEAST = 3  # points that make a front
FRONT_GREY = "#8f8f8f"
LABEL_WIDTH = 64  # letters on a line beside an axis

Spans = tuple[tuple[float, float], tuple[float, float]]


@dataclass
class _Data:
    """What is drawn: tasks as (x, y), intervals by label in each, seeds, and the labels with both means."""

    tasks: tuple[str, str]
    metrics: tuple[Metric, Metric]
    x: dict[str, Floats]
    y: dict[str, Floats]
    seeds: pd.DataFrame
    names: list[str]
    front: dict[float, str] = field(default_factory=dict[float, str])  # by the main task's share, in its order

    def at(self, name: str) -> tuple[float, float]:
        return float(self.x[name][0]), float(self.y[name][0])

    def text(self, name: str, written: str) -> str:
        """With the numbers, the main task's first."""
        (x, y), (of_x, of_y) = self.at(name), self.metrics
        return f"{written} ({number(y, of_y)}, {number(x, of_x)})"

    def tooltip(self, name: str) -> str:
        parts = zip(self.tasks, (self.x, self.y), self.metrics, strict=True)
        texts = [f"{task} {estimate(found[name], metric)}" for task, found, metric in parts if name in found]
        return f"{shown(name)}: {', '.join(reversed(texts))}"


def trade_off(frames: Frames) -> Figure:
    """The main score against the first auxiliary score."""
    if len(frames.tasks) < 2:
        return nothing(frames, "Trade-off", "there is one task only")
    data = _data(frames)
    if not data.names:
        return nothing(frames, _title(data.tasks), "no finished run with both tasks")
    figure, fits = _draw(frames, data, direct=True)
    return figure if fits else _draw(frames, data, direct=False)[0]


def _title(tasks: tuple[str, str]) -> str:
    return f"Trade-off between {wrapped(tasks[1], 32, 1)} and {wrapped(tasks[0], 32, 1)}"


def _data(frames: Frames) -> _Data:
    tasks = (frames.tasks[1], frames.tasks[0])
    x, y = (intervals_of(frames, task) for task in tasks)
    both = {name for name in x if name in y and math.isfinite(x[name][0] + y[name][0])}
    seeds = frames.runs.pivot_table(index=["strategy", "seed"], columns="task", values="score")
    seeds = seeds.reindex(columns=list(tasks)).replace([np.inf, -np.inf], np.nan).dropna()
    names = [name for name in names_of(frames.scores, baselines=False) if name in both]
    shares = {float(name.partition(":")[2]): name for name in both if role_of(name) == FRONT}
    front: dict[float, str] = {}
    if len(shares) >= LEAST:
        if REFERENCE in both:
            shares[0.5] = REFERENCE
        front = dict(sorted(shares.items()))
    metrics = (metric_of(frames, tasks[0]), metric_of(frames, tasks[1]))
    return _Data(tasks, metrics, x, y, seeds, names, front)


def _spans(data: _Data, *, few: bool) -> Spans:
    """Limits for which the strategies decide; points of the front that lie near are taken in."""
    spans: list[tuple[float, float]] = []
    for task, found in zip(data.tasks, (data.x, data.y), strict=True):
        drawn = [found[n] for n in (*data.names, f"single:{task}") if n in found]
        values = np.concatenate([*drawn, floats(data.seeds.loc[_ours(data)], task).ravel() if few else np.empty(0)])
        spans.append(limits(values, 12 if few else 6))  # names need more room than points
    (left, right), (low, high) = spans
    dx, dy = 0.3 * (right - left), 0.3 * (high - low)
    near = np.array([
        (x, y) for x, y in map(data.at, data.front.values())
        if left - dx <= x <= right + dx and low - dy <= y <= high + dy
    ]).reshape(-1, 2)  # fmt: skip
    xs, ys = near.T
    margin = 0.15
    return (
        (min(left, *xs - margin * dx, left), max(right, *xs + margin * dx, right)),
        (min(low, *ys - margin * dy, low), max(high, *ys + margin * dy, high)),
    )


def _ours(data: _Data) -> list[bool]:
    return [str(name) in data.names for name in data.seeds.index.get_level_values("strategy")]


def _draw(frames: Frames, data: _Data, *, direct: bool) -> tuple[Figure, bool]:
    """The figure, with names beside the points or in a legend; and whether each name found a place."""
    look, few = styles(frames), len(data.names) <= FEW
    spans = _spans(data, few=few)
    points = [name for name in data.names if _within(data.at(name), spans)]
    dots = {
        n: floats(data.seeds[data.seeds.index.get_level_values("strategy") == n], *data.tasks) for n in points if few
    }
    figure = page(frames, _title(data.tasks), 4.6 if few else 6.0, _legend(data, points, look, direct=direct),
                  note=_note(data, points, spans, dots))  # fmt: skip
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
        if name in dots and len(dots[name]):
            cloud = ax.scatter(*dots[name].T, s=13, color=style.colour, alpha=0.28, linewidths=0)
            mark(cloud, name, f"{shown(name)}, {len(dots[name])} seeds")
        for ends in ((data.x[name][1:], [at[1]] * 2), ([at[0]] * 2, data.y[name][1:])):
            mark_all(ax.plot(*ends, color=style.colour, linewidth=width, alpha=1 if few else 0.6), name, tooltip)
        mark_all(ax.plot(*at, **style.marker_look(9 if few else 7), zorder=3), name, tooltip)
        if few_enough and style.hollow and base_of(name) in points:
            arrows.append((data.at(base_of(name)), at))
            arrow = FancyArrowPatch(*arrows[-1], arrowstyle="->", mutation_scale=8, shrinkA=5, shrinkB=5,
                                    color=style.colour, linewidth=0.9, zorder=2.6)  # fmt: skip
            mark(ax.add_patch(arrow), name, tooltip)
    settle(figure)
    size = 8.5 if few else 7.5
    named = [n for n in points if not look[n].hollow or base_of(n) not in points] if direct else []
    labels = [Label(wrapped(shown(n)), data.at(n), look[n].ink, size, n) for n in named]
    return figure, label_points(ax, labels + _share_labels(data, spans), arrows)


def _within(at: tuple[float, float], spans: Spans) -> bool:
    return all(low <= value <= high for value, (low, high) in zip(at, spans, strict=True))


def _legend(data: _Data, points: list[str], look: dict[str, Style], *, direct: bool) -> list[Line2D]:
    """The names that do not stand beside their points, what hollow markers are, and the front."""
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


def _note(data: _Data, points: list[str], spans: Spans, dots: dict[str, Floats]) -> str:
    """The corner to look for, and what the axes leave out."""
    x, y = (metric.higher_is_better for metric in data.metrics)
    note = f"Best is the {'upper' if y else 'lower'} {'right' if x else 'left'} corner."
    away = [data.text(name, shown(name)) for name in data.names if name not in points]
    missed = sum(not _within((at[0], at[1]), spans) for cloud in dots.values() for at in cloud)
    away += [f"{missed} more seed{'s' * (missed > 1)}"] if missed else []
    note += f" Off the scale: {'; '.join(away)}." if away else ""
    ends = [data.text(name, f"{share:g}") for share, name in data.front.items()
            if name != REFERENCE and not _within(data.at(name), spans)]  # fmt: skip
    return f"{note} Main-task shares off the scale: {'; '.join(ends)}." if ends else note


def _front(ax: Axes, data: _Data) -> None:
    """A line through the sweep of fixed weights, below everything; it leaves the axes towards what lies outside."""
    if not data.front:
        return
    at = np.array([data.at(name) for name in data.front.values()])
    mark_all(ax.plot(*at.T, color=FRONT_GREY, linewidth=1.2, zorder=1.2), FRONT, "fixed weights of other shares")
    for share, name in data.front.items():
        if name == REFERENCE:
            continue
        tooltip = f"fixed weights, main-task share {share:g}: {data.tooltip(name).partition(': ')[2]}"
        x, y = data.at(name)
        for ends in ((data.x[name][1:], [y, y]), ([x, x], data.y[name][1:])):
            mark_all(ax.plot(*ends, color=FRONT_GREY, linewidth=0.6, alpha=0.7, zorder=1.2), FRONT, tooltip)
        mark_all(ax.plot(x, y, "o", color=FRONT_GREY, markersize=3.5, zorder=1.3), FRONT, tooltip)


def _share_labels(data: _Data, spans: Spans) -> list[Label]:
    """Shares beside a few points of the front: its ends on the scale, and some between them."""
    there = [share for share, name in data.front.items() if name != REFERENCE and _within(data.at(name), spans)]
    chosen = sorted({round(i) for i in np.linspace(0, len(there) - 1, min(5, len(there)))})
    # The ends first: they must not lose their places to those between.
    chosen.sort(key=lambda i: i not in (0, len(there) - 1))
    return [Label(f"{there[i]:g}", data.at(data.front[there[i]]), FAINT, 7, FRONT, needed=False) for i in chosen]


def _baselines(ax: Axes, data: _Data, look: dict[str, Style]) -> None:
    """A dashed line for each task trained alone, where it lies on the scale."""
    for task, found, (low, high), which in zip(
        data.tasks, (data.x, data.y), (ax.get_xlim(), ax.get_ylim()), "xy", strict=True
    ):
        name = f"single:{task}"
        value = float(found[name][0]) if name in found else math.nan
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
