"""Empty figures for plots: title, legend, caption, and the room between them for axes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from mtlbench.report.figures.marks import mark
from mtlbench.report.figures.style import FAINT, WIDTH


def blank(caption: str, title: str, height: float, legend: Sequence[Line2D] = (), note: str = "") -> Figure:
    """An empty figure with title, legend and caption, and `height` inches between them for the axes."""
    lines = textwrap.wrap(f"{caption} {note}".strip(), 140)
    size, rows, columns = 8.5 if len(legend) <= 12 else 7.5, 0, 1
    if legend:
        widest = max(len(str(line.get_label())) for line in legend)
        columns = min(len(legend), max(1, int((WIDTH - 0.2) / (0.5 + 0.0079 * size * widest))))
        rows = math.ceil(len(legend) / columns)
    top, bottom = 0.46 + 0.021 * size * rows + 0.06 * bool(rows), 0.2 + 0.15 * len(lines)
    total = top + height + bottom
    figure = Figure(figsize=(WIDTH, total), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    engine: Any = figure.get_layout_engine()
    engine.set(rect=(0.008, bottom / total, 0.984, height / total), h_pad=0.04, w_pad=0.06, wspace=0.03, hspace=0.04)
    left = 0.12 / WIDTH
    figure.text(left, 1 - 0.13 / total, title, size=12, weight="bold", va="top", in_layout=False)
    figure.text(left, 0.1 / total, "\n".join(lines), size=7.5, color=FAINT, va="bottom", in_layout=False)
    if legend:
        figure.legend(
            handles=legend, loc="upper left", bbox_to_anchor=(0.03 / WIDTH, 1 - 0.41 / total), ncols=columns,
            fontsize=size, borderpad=0.2, handlelength=2.2, columnspacing=1.4, labelspacing=0.35,
        ).set_in_layout(False)  # fmt: skip
    return figure


def nothing(caption: str, title: str, why: str) -> Figure:
    """A figure without axes that says why there is nothing to draw."""
    figure = blank(caption, title, 1.0)
    figure.text(0.5, 0.5, why, size=11, color=FAINT, ha="center", va="center")
    return figure


def even_panels(figure: Figure, rows: int, columns: int) -> list[Axes]:
    """A grid of panels with a title each, and ticks at the left and bottom only.

    Positions are computed here, since letting matplotlib measure many panels would take most of the time.
    """
    engine: Any = figure.get_layout_engine()
    _, bottom, _, height = engine.get()["rect"]
    figure.set_layout_engine("none")
    total = float(figure.get_figheight())
    title, gap = 0.34, 0.16
    bottom, top = bottom + 0.46 / total, bottom + height - title / total
    each = ((top - bottom) * total - title * (rows - 1)) / rows, (WIDTH - 0.8 - gap * (columns - 1)) / columns
    grid = {
        "left": 0.68 / WIDTH, "right": 1 - 0.12 / WIDTH, "bottom": bottom, "top": top, "hspace": title / each[0],
        "wspace": gap / each[1],
    }  # fmt: skip
    return list(figure.subplots(rows, columns, squeeze=False, gridspec_kw=grid).ravel())


def mark_legend(figure: Figure, strategies: Sequence[str]) -> None:
    """Mark lines and names of the legends, which are those of `strategies` in this order."""
    for legend in figure.legends:
        for line, text, name in zip(legend.legend_handles, legend.get_texts(), strategies, strict=False):
            if line is not None:
                mark(line, name)
            mark(text, name)


def settle(figure: Figure) -> None:
    """Fix the layout, so that artists can be placed by measuring and other settings do not change the figure."""
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        if figure.axes:
            engine.execute(figure)
        figure.set_layout_engine("none")
