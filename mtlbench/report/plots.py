"""The plots of a bench: their list and how they are saved. What each one draws, and how it looks, is in `figures`."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

from mtlbench.report.figures.canvas import settle
from mtlbench.report.figures.critical_difference import critical_difference
from mtlbench.report.figures.heat_map import heat_map
from mtlbench.report.figures.inputs import Frames, Overview
from mtlbench.report.figures.marks import Mark, marks_of
from mtlbench.report.figures.over_training import curves, weights
from mtlbench.report.figures.strategy_rows import accuracy, auxiliary, cost
from mtlbench.report.figures.style import COLOURS, styles, theme
from mtlbench.report.figures.trade_off import trade_off
from mtlbench.stats.ranks import Ranking

__all__ = ["COLOURS", "OVERVIEW_PLOTS", "PLOTS", "Frames", "Overview", "Plot", "Ranking", "SavedPlot", "save_all",
           "styles", "theme"]  # fmt: skip

Data = TypeVar("Data", Frames, Overview)


@dataclass(frozen=True)
class Plot(Generic[Data]):
    """One plot of a report: its heading, one sentence on how to read it, its text for who cannot see it."""

    title: str
    how_to_read: str
    alt: str
    drawing: Callable[[Data], Figure]

    def draw(self, data: Data) -> Figure:
        """The figure, under the plots' own settings and with its layout fixed."""
        with theme():
            figure = self.drawing(data)
            settle(figure)
            return figure


@dataclass(frozen=True)
class SavedPlot:
    """A plot as it was saved: its files' name, its PNG, the text of the SVG beside it, and what is marked in that."""

    name: str
    plot: Plot[Any]
    png: Path
    svg: str
    marks: dict[str, Mark]


PLOTS: dict[str, Plot[Frames]] = {
    "accuracy": Plot(
        "Main task",
        "Each faint dot is one seed, the large marker their mean (a triangle at the edge: off the scale) and the "
        "thick line its 95% interval; on the right stands the paired difference to fixed weights with its interval, "
        "bold where it is significant after Holm's correction. Hollow markers are strategies with tuned settings.",
        "Test score of the main task for every strategy: one dot per seed, mean and 95% interval.",
        accuracy,
    ),
    "auxiliary": Plot(
        "Auxiliary tasks",
        "As above, for the auxiliary tasks: faint dots are seeds, the large marker is their mean and the thick "
        "line its 95% interval.",
        "Test score of the auxiliary tasks for every strategy: one dot per seed, mean and 95% interval.",
        auxiliary,
    ),
    "trade-off": Plot(
        "Trade-off between the tasks",
        "Each cross of lines is a strategy's mean with the 95% interval of both scores, faint dots (up to eight "
        "strategies) are seeds, and dashed lines are each task trained alone. The grey line is what fixed weights "
        "reach as the main task's share goes from 0 to 1: a strategy pays off where it lies on the better side of it. "
        "Hollow markers are tuned settings.",
        "Main test score against the first auxiliary test score: mean and 95% intervals of every strategy.",
        trade_off,
    ),
    "curves": Plot(
        "Learning curves",
        "Validation scores are above, training losses below on a log scale. Lines are means over seeds; up to eight "
        "strategies have bands from the lowest to the highest seed. Of more, fixed weights, tasks trained alone, the "
        "three that ended best in a task and the two that ended worst are in colour, and names stand in the order of "
        "the last epoch, with an arrow and the value where it is off the scale.",
        "Validation score and training loss of every task against epochs, one line per strategy.",
        curves,
    ),
    "weights": Plot(
        "Effective weights",
        "One panel per strategy: lines are the mean weight of each task over seeds, bands reach from the lowest to the "
        "highest seed, and the thin grey line is a weight of one.",
        "Effective weight of every task during training, one small panel per strategy.",
        weights,
    ),
    "cost": Plot(
        "Speed and cost",
        "Left, training samples per second; right, time per step relative to fixed weights measured in the same "
        "round, where 1 costs nothing extra; lines are 95% intervals.",
        "Throughput and cost relative to fixed weights of every strategy, for one replica and the whole stack.",
        cost,
    ),
}


OVERVIEW_PLOTS: dict[str, Plot[Overview]] = {
    "heat-map": Plot(
        "Strategies by setups",
        "Each number is a strategy's mean paired difference to fixed weights on one setup; blue is better and orange "
        "worse than fixed weights, and grey differences are not significant after Holm's correction.",
        "Paired difference to fixed weights of every strategy on every setup, as a table of coloured cells.",
        heat_map,
    ),
    "ranks": Plot(
        "Mean ranks",
        "Strategies on the axis of their mean rank, 1 being best; thick bars join those whose ranks differ by less "
        "than the critical difference, so that they cannot be told apart.",
        "Critical difference diagram: mean rank of every strategy, with bars joining those not told apart.",
        critical_difference,
    ),
}


def save_all(plots: Mapping[str, Plot[Data]], data: Data, folder: Path) -> list[SavedPlot]:
    """Draw plots and save each as PNG and SVG.

    Args:
        plots: Plots by the names of their files, without an ending.
        data: What they draw.
        folder: Where the files go; it is made if it is not there.

    Returns:
        The plots in the order given; the file of each SVG lies beside its PNG.
    """
    folder.mkdir(parents=True, exist_ok=True)
    saved: list[SavedPlot] = []
    for name, plot in plots.items():
        figure = plot.draw(data)
        with theme():
            svg = _svg(figure)
            png = _png(figure)
        _write(folder / f"{name}.svg", svg)
        _write(folder / f"{name}.png", png)
        saved.append(SavedPlot(name, plot, folder / f"{name}.png", svg.decode(), marks_of(figure)))
        figure.clear()
    return saved


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue()


def _png(figure: Figure) -> bytes:
    figure.set_dpi(200)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.frombytes("RGBA", canvas.get_width_height(), bytes(canvas.buffer_rgba())).convert("RGB")
    buffer = io.BytesIO()
    # 256 colours are as good to the eye, in a third of the bytes; 64 would take strategies' colours for each other.
    image.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
        buffer, "png", compress_level=6, dpi=(200, 200)
    )
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
