"""The plots of a bench: their list, and how they are drawn and saved. `figures/` has their drawings."""

from __future__ import annotations

import io
import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

from mtlbench import files
from mtlbench.records.environment import cores
from mtlbench.report.figures.canvas import settle
from mtlbench.report.figures.critical_difference import critical_difference
from mtlbench.report.figures.heat_map import heat_map
from mtlbench.report.figures.inputs import Frames, Overview
from mtlbench.report.figures.marks import Mark, marks_of
from mtlbench.report.figures.over_training import curves, weights
from mtlbench.report.figures.strategy_rows import accuracy, auxiliary, cost
from mtlbench.report.figures.style import theme
from mtlbench.report.figures.trade_off import trade_off
from mtlbench.stats.findings import Findings

ENOUGH_FOR_PROCESSES = 4  # smallest number of setups whose plots are drawn by several processes
Data = TypeVar("Data", Frames, Overview)


@dataclass(frozen=True)
class Plot(Generic[Data]):
    """A plot of a report.

    `how_to_read` explains it below its `title`, `alt` describes it to readers who cannot see it, `drawing` makes the
    figure, and `csv` is the CSV file with its numbers.
    """

    title: str
    how_to_read: str
    alt: str
    drawing: Callable[[Data], Figure]
    csv: str = "scores.csv"

    def draw(self, data: Data) -> Figure:
        """The figure, with the settings of all plots and a fixed layout."""
        with theme():
            figure = self.drawing(data)
            settle(figure)
            return figure


@dataclass(frozen=True, eq=False)
class SavedPlot:
    """A plot with its PNG file, the text of the SVG file beside it, and the marks in that by id."""

    name: str
    plot: Plot[Any]
    png: Path
    svg: str
    marks: dict[str, Mark] = field(default_factory=dict[str, Mark])


@dataclass(frozen=True)
class SavedPlots:
    """The saved plots of each setup, and those across setups."""

    of_setups: dict[str, list[SavedPlot]]
    across: list[SavedPlot]


PLOTS: dict[str, Plot[Frames]] = {
    "accuracy": Plot(
        "Main task",
        "Each faint dot is one seed, the large marker is the mean over seeds (a triangle at the edge if it is off the "
        "scale) and the thick line its 95% interval. The numbers on the right are the mean and the paired difference "
        "to fixed weights with its interval, in bold if significant after Holm's correction. Hollow markers are "
        "strategies with tuned settings.",
        "Test score of the main task for every strategy: one dot per seed, mean and 95% interval.",
        accuracy,
        csv="runs.csv",
    ),
    "auxiliary": Plot(
        "Auxiliary tasks",
        "As above, for the auxiliary tasks: faint dots are seeds, the large marker is their mean and the thick line "
        "its 95% interval.",
        "Test score of the auxiliary tasks for every strategy: one dot per seed, mean and 95% interval.",
        auxiliary,
        csv="runs.csv",
    ),
    "trade-off": Plot(
        "Trade-off between the tasks",
        "Each cross is the mean of a strategy with the 95% intervals of both scores, faint dots (with up to eight "
        "strategies) are seeds, and dashed lines are each task trained alone. The grey line is what fixed weights "
        "reach as the share of the main task goes from 0 to 1: a strategy is useful only if it lies on the "
        "better side of this line. Hollow markers are tuned settings.",
        "Main test score against the first auxiliary test score: mean and 95% intervals of every strategy.",
        trade_off,
    ),
    "curves": Plot(
        "Learning curves",
        "Validation scores are at the top, training losses (log scale) at the bottom. Lines are means over seeds; with "
        "up to eight strategies, bands reach from the lowest to the highest seed. With more, only fixed weights, tasks "
        "trained alone, the three strategies that ended best in a task and the two that ended worst are coloured. "
        "Names are in the order of the last epoch; an arrow and a value mark a line that ends off the scale.",
        "Validation score and training loss of every task against epochs, one line per strategy.",
        curves,
        csv="curves.csv",
    ),
    "weights": Plot(
        "Effective weights",
        "One panel per strategy. Lines are the mean weight of each task over seeds, bands reach from the lowest to the "
        "highest seed, and the thin grey line is a weight of one.",
        "Effective weight of every task during training, one small panel per strategy.",
        weights,
        csv="curves.csv",
    ),
    "cost": Plot(
        "Speed and cost",
        "Left: training samples per second. Right: time per step relative to fixed weights, measured in the same "
        "round; 1 means no extra cost. Lines are 95% intervals.",
        "Throughput and cost relative to fixed weights of every strategy, for one replica and the whole stack.",
        cost,
        csv="speeds.csv",
    ),
}


OVERVIEW_PLOTS: dict[str, Plot[Overview]] = {
    "heat-map": Plot(
        "Strategies by setups",
        "Each number is the mean paired difference of a strategy to fixed weights on one setup. Blue is better than "
        "fixed weights, orange is worse, and grey numbers are not significant after Holm's correction.",
        "Paired difference to fixed weights of every strategy on every setup, as a table of coloured cells.",
        heat_map,
    ),
    "ranks": Plot(
        "Mean ranks",
        "Strategies on an axis of their mean rank, 1 being best. Thick bars join strategies whose mean ranks differ by "
        "less than the critical difference, so that they cannot be distinguished.",
        "Critical difference diagram: mean rank of every strategy, with bars joining those that do not differ.",
        critical_difference,
    ),
}


def draw_all(findings: Findings, folder: Path) -> SavedPlots:
    """Draw and save all plots of a bench, in `folder/SETUP/` and across setups in `folder`; none without scores."""
    if findings.per_seed.empty:
        return SavedPlots({}, [])
    main, setups = findings.bench.main_setup, list(findings.runs)
    without_cost = {name: plot for name, plot in PLOTS.items() if name != "cost"}  # measured on the main setup only
    chosen = [PLOTS if setup == main else without_cost for setup in setups]
    jobs = chosen, [Frames.of(findings, setup) for setup in setups], [folder / setup for setup in setups]
    workers = min(len(setups), cores())
    if len(setups) < ENOUGH_FOR_PROCESSES or workers < 2:
        saved = list(map(save_all, *jobs))
    else:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            saved = list(pool.map(save_all, *jobs))
    across = {name: plot for name, plot in OVERVIEW_PLOTS.items() if name != "heat-map" or len(setups) > 1}
    return SavedPlots(dict(zip(setups, saved, strict=True)), save_all(across, Overview.of(findings), folder))


def save_all(plots: Mapping[str, Plot[Data]], data: Data, folder: Path) -> list[SavedPlot]:
    """Draw plots and save each as PNG and SVG in a folder, which is created if missing; `plots` are by file name."""
    saved: list[SavedPlot] = []
    for name, plot in plots.items():
        figure = plot.draw(data)
        with theme():
            svg = _svg(figure)
            png = _png(figure)
        for suffix, content in (("svg", svg), ("png", png)):
            with files.replaced(folder / f"{name}.{suffix}") as scratch:
                scratch.write_bytes(content)
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
    # 256 colours look the same and take a third of the bytes; with 64, colours of strategies would coincide.
    image.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
        buffer, "png", compress_level=6, dpi=(200, 200)
    )
    return buffer.getvalue()
