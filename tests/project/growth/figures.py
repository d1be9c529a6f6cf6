"""The three figures of the page: time per sample and memory of a step, and both ways to a layer's Gramian."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from mtlbench.records.roles import REFERENCE
from mtlbench.report.figures.axes import log_axis
from mtlbench.report.figures.canvas import blank, settle
from mtlbench.report.figures.style import COLOURS, FAINT, INK, MARKERS, Style, theme
from tests.project.growth.facts import line, medians, seconds_per_unit, switch
from tests.project.growth.measure import (
    BASE,
    CURVES,
    GRAMIAN_SECONDS,
    GRAMIANS,
    PATHS,
    PEAK_BYTES,
    STEP_SECONDS,
    STRATEGIES,
)

LOOK = {
    name: Style(colour, marker)
    for name, colour, marker in zip(STRATEGIES, [INK, *COLOURS], cycle(MARKERS), strict=False)
}
WAYS = {path: Style(colour) for path, colour in zip(PATHS, COLOURS, strict=False)}
FORMULA_DASHES = (1.2, 1.6)
X_LABELS = {
    "replicas": "replicas of the stack (K)",
    "tasks": "tasks (T)",
    "batch": "batch (B)",
    "width": "width of the trunk's first layer",
}
LABELLED = {2**power for power in range(11)} | {12}


@dataclass(frozen=True)
class Growth:
    """The data of the figures: the medians of the measured rows, and the line below each figure."""

    points: pd.DataFrame
    caption: str


def draw_all(rows: pd.DataFrame, caption: str) -> dict[str, Figure]:
    """All figures, by the name of their file."""
    data = Growth(medians(rows), caption)
    figures: dict[str, Figure] = {}
    with theme():
        for name, draw in (("step-time", step_time), ("memory", memory), ("gramian", gramian)):
            figures[name] = draw(data)
            settle(figures[name])
    return figures


def step_time(data: Growth) -> Figure:
    """Time per sample of a training step, and of its matrix products at the speed of those of a Gramian."""
    scale = seconds_per_unit(data.points)
    legend = [*_legend(LOOK), _formula_line("products alone")]
    figure = blank(data.caption, "Time per sample of a training step", 5.6, legend, _base_note())
    for ax, curve in zip(figure.subplots(2, 2, sharey=True).ravel(), CURVES, strict=True):
        for name, style in LOOK.items():
            own = line(data.points, STEP_SECONDS, curve, name)
            unit = 1e6 / own["samples"]
            _draw(ax, own, name, style, unit)
            ax.plot(own["x"], scale * own["formula"] * unit, color=style.colour, dashes=FORMULA_DASHES, linewidth=1.1)
        _finish(ax, curve, X_LABELS[curve], CURVES[curve], "µs per sample")
        ax.yaxis.set_major_locator(
            LogLocator(subs=(1, 2, 5))
        )  # ticks at powers of ten alone are too few over two decades
    return figure


def memory(data: Growth) -> Figure:
    """Peak memory of a step's tensors, per replica."""
    figure = blank(
        data.caption, "Memory of a training step, per replica of the stack", 5.6, _legend(LOOK), _base_note()
    )
    for ax, curve in zip(figure.subplots(2, 2, sharey=True).ravel(), CURVES, strict=True):
        for name, style in LOOK.items():
            own = line(data.points, PEAK_BYTES, curve, name)
            replicas = own["x"] if curve == "replicas" else BASE.replicas
            _draw(ax, own, name, style, 1 / (2**20 * replicas))
        _finish(ax, curve, X_LABELS[curve], CURVES[curve], "MiB per replica")
    return figure


def gramian(data: Growth) -> Figure:
    """Time of both ways to one layer's Gramian, the formula of each, and where the rule switches."""
    scale = seconds_per_unit(data.points)
    legend = [
        *_legend(WAYS),
        _formula_line("by the formula"),
        Line2D([], [], color=FAINT, linewidth=1, label="the rule switches"),
    ]
    note = f"Batch {BASE.batch} and {BASE.tasks} tasks unless stated otherwise; a stack of {BASE.replicas}."
    figure = blank(data.caption, "Gramian of one layer: two ways to the same numbers", 5.6, legend, note)
    for ax, (curve, (_, _, xs)) in zip(figure.subplots(2, 3).ravel(), GRAMIANS.items(), strict=True):
        for path, style in WAYS.items():
            own = line(data.points, GRAMIAN_SECONDS, curve, path)
            _draw(ax, own, path, style, 1e3)
            ax.plot(own["x"], scale * own["formula"] * 1e3, color=style.colour, dashes=FORMULA_DASHES, linewidth=1.1)
        if (where := switch(curve)) is not None:
            ax.axvline(where, color=FAINT, linewidth=1, zorder=0.9)
        _finish(ax, curve, curve.partition(",")[0], xs, "ms")
    return figure


def _draw(ax: Axes, own: pd.DataFrame, name: str, style: Style, unit: float | pd.Series[float]) -> None:
    """A line through the medians, and a band over the middle half of the rounds."""
    ax.plot(own["x"], own["value"] * unit, **_look(name, style))
    ax.fill_between(own["x"], own["low"] * unit, own["high"] * unit, color=style.colour, alpha=0.15, linewidth=0)


def _look(name: str, style: Style) -> dict[str, Any]:
    """Lines of fixed weights are wide, so that they are visible below lines at the same place."""
    wide = name == REFERENCE
    return {"linewidth": 3 if wide else 1.5, **style.marker_look(8 if wide else 5.5)}


def _finish(ax: Axes, title: str, x_label: str, xs: Sequence[int], y_label: str) -> None:
    ax.set(title=title, xlabel=x_label, ylabel=y_label, xscale="log")
    log_axis(ax, "y")
    ax.set_xticks(labelled := [x for x in xs if x in LABELLED], labels=[str(x) for x in labelled])
    ax.xaxis.set_minor_locator(NullLocator())


def _legend(look: Mapping[str, Style]) -> list[Line2D]:
    return [Line2D([], [], label=name, **_look(name, style)) for name, style in look.items()]


def _formula_line(label: str) -> Line2D:
    dotted = Line2D([], [], color=FAINT, linewidth=1.1, label=label)
    dotted.set_dashes(FORMULA_DASHES)
    return dotted


def _base_note() -> str:
    return (
        f"Each panel varies one quantity; the others are {BASE.replicas} replicas, {BASE.tasks} tasks, batch "
        f"{BASE.batch} and trunk 784-{BASE.width}-{BASE.width // 2}."
    )
