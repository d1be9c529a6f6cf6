"""The plots of a bench: their look, their list and how they are saved. What each one draws is in `figures`."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib.style
import pandas as pd
import seaborn as sns
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from mtlbench.ranks import Ranks

WIDTH = 9.0  # inches
FEW = 8  # strategies that can each have a line, a band and its seeds drawn
INK, FAINT = "#333333", "#767676"
# seaborn's "colorblind" without what is grey or too pale on white; further strategies repeat it with another
# marker and line.
COLOURS = [sns.color_palette("colorblind").as_hex()[i] for i in (0, 1, 2, 4, 3, 9)]
MARKERS = "osD^v"
DASHES: list[tuple[float, ...]] = [(), (4, 1.5), (1.2, 1.2), (5, 1.2, 1.2, 1.2), (7, 2)]
BASELINES = ["#8a8a8a", "#a8a8a8"]


@dataclass(frozen=True)
class Frames:
    """What the plots of one setup draw: its frames (see `tables`), its tasks (the main one first), its conditions."""

    runs: pd.DataFrame
    curves: pd.DataFrame
    scores: pd.DataFrame
    costs: pd.DataFrame
    tasks: tuple[str, ...]
    caption: str


@dataclass(frozen=True)
class Ranking:
    """Mean ranks of strategies (1 is best) in one score, with the Friedman test and the critical difference.

    `blocks` says what was ranked within: `setups`, or `seeds` of one setup, which speak of seed noise only.
    """

    score: str
    strategies: list[str]
    ranks: Ranks
    blocks: Literal["setups", "seeds"]


@dataclass(frozen=True)
class Overview:
    """What the plots across the setups of a bench draw: the scores of all of them, and the rankings."""

    scores: pd.DataFrame
    main_tasks: dict[str, str]
    rankings: list[Ranking]
    caption: str


@dataclass(frozen=True)
class Style:
    """How one strategy looks in every plot; empty dashes are a solid line."""

    colour: str
    marker: str = "o"
    dashes: tuple[float, ...] = ()

    def line(self, label: str) -> Line2D:
        """The strategy's line in a legend."""
        line = Line2D([], [], color=self.colour, linewidth=1.8, label=label)
        if self.dashes:
            line.set_dashes(self.dashes)
        return line

    def point(self, label: str) -> Line2D:
        """The strategy's marker in a legend."""
        return Line2D([], [], color=self.colour, marker=self.marker, markersize=7, linestyle="none", label=label)


def is_baseline(strategy: str) -> bool:
    """Whether the strategy trains one task alone."""
    return strategy.startswith("single:")


def styles(frames: Frames) -> dict[str, Style]:
    """One style per strategy, decided by the order of the scores."""
    found: dict[str, Style] = {}
    known = pd.concat([frames.scores["strategy"], frames.runs["strategy"], frames.costs["strategy"]])
    names = [str(name) for name in known.unique()]
    for i, name in enumerate(filter(is_baseline, names)):
        found[name] = Style(BASELINES[i % len(BASELINES)], "d", (2.5, 2))
    for i, name in enumerate(n for n in names if n != "fixed" and not is_baseline(n)):
        cycle = i // len(COLOURS)
        found[name] = Style(COLOURS[i % len(COLOURS)], MARKERS[cycle % 5], DASHES[cycle % 5])
    return {name: found.get(name, Style(INK)) for name in names}


@contextmanager
def theme() -> Generator[None]:
    """Matplotlib's settings while a plot is drawn or saved, whatever the reader's own are."""
    own = {
        "axes.edgecolor": "#b5b5b5", "axes.labelcolor": INK, "axes.labelsize": 9, "axes.linewidth": 0.8,
        "axes.titlesize": 9.5, "axes.titlelocation": "left", "axes.grid": True, "axes.axisbelow": True,
        "axes.spines.top": False, "axes.spines.right": False, "font.size": 9, "grid.color": "#ececec",
        "grid.linewidth": 0.8, "text.color": INK, "xtick.color": INK, "ytick.color": INK, "xtick.major.size": 0,
        "ytick.major.size": 0, "xtick.labelsize": 8.5, "ytick.labelsize": 8.5, "legend.frameon": False,
        "legend.fontsize": 8.5, "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
        "svg.fonttype": "none", "svg.hashsalt": "mtlbench",
    }  # fmt: skip
    with matplotlib.style.context(["default", sns.axes_style("white"), own]):
        yield


def page(frames: Frames, title: str, height: float, legend: Sequence[Line2D] = (), note: str = "") -> Figure:
    """An empty figure: title, legend and caption, and `height` inches between them for the axes."""
    caption = textwrap.wrap(f"{frames.caption} {note}".strip(), 140)
    size, rows, columns = 8.5 if len(legend) <= 12 else 7.5, 0, 1
    if legend:
        widest = max(len(str(line.get_label())) for line in legend)
        columns = min(len(legend), max(1, int((WIDTH - 0.2) / (0.5 + 0.0079 * size * widest))))
        rows = math.ceil(len(legend) / columns)
    top, bottom = 0.46 + 0.021 * size * rows + 0.06 * bool(rows), 0.2 + 0.15 * len(caption)
    total = top + height + bottom
    figure = Figure(figsize=(WIDTH, total), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    engine: Any = figure.get_layout_engine()
    engine.set(rect=(0.008, bottom / total, 0.984, height / total), h_pad=0.04, w_pad=0.06, wspace=0.03, hspace=0.04)
    left = 0.12 / WIDTH
    figure.text(left, 1 - 0.13 / total, title, size=12, weight="bold", va="top", in_layout=False)
    figure.text(left, 0.1 / total, "\n".join(caption), size=7.5, color=FAINT, va="bottom", in_layout=False)
    if legend:
        figure.legend(
            handles=legend, loc="upper left", bbox_to_anchor=(0.03 / WIDTH, 1 - 0.41 / total), ncols=columns,
            fontsize=size, borderpad=0.2, handlelength=2.2, columnspacing=1.4, labelspacing=0.35,
        ).set_in_layout(False)  # fmt: skip
    return figure


def nothing(frames: Frames, title: str, why: str) -> Figure:
    """A figure that says why there is nothing to see."""
    figure = page(frames, title, 1.0)
    figure.text(0.5, 0.5, why, size=11, color=FAINT, ha="center", va="center")
    return figure


@dataclass(frozen=True)
class Plot:
    """One plot of a report: its heading, one sentence on how to read it, its text for who cannot see it."""

    title: str
    how_to_read: str
    alt: str
    draw: Callable[[Frames], Figure]


def _drawing(name: str) -> Callable[[Frames], Figure]:
    def draw(frames: Frames) -> Figure:
        from mtlbench.figures import DRAWINGS

        with theme():
            figure = DRAWINGS[name](frames)
            # The layout is fixed here, so that the figure looks the same when saved under other settings.
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
            return figure

    return draw


PLOTS: dict[str, Plot] = {
    "accuracy": Plot(
        "Main task",
        "Each faint dot is one seed, the large marker their mean (a triangle at the edge: off the scale) and the "
        "thick line its 95% interval; on the right stands the paired difference to fixed weights with its interval.",
        "Test score of the main task for every strategy: one dot per seed, mean and 95% interval.",
        _drawing("accuracy"),
    ),
    "auxiliary": Plot(
        "Auxiliary tasks",
        "As above, for the auxiliary tasks: faint dots are seeds, the large marker is their mean and the thick "
        "line its 95% interval.",
        "Test score of the auxiliary tasks for every strategy: one dot per seed, mean and 95% interval.",
        _drawing("auxiliary"),
    ),
    "trade-off": Plot(
        "Trade-off between the tasks",
        "Each cross of lines is a strategy's mean with the 95% interval of both scores, faint dots (up to eight "
        "strategies) are seeds, and dashed lines are each task trained alone.",
        "Main test score against the first auxiliary test score: mean and 95% intervals of every strategy.",
        _drawing("trade-off"),
    ),
    "curves": Plot(
        "Learning curves",
        "Validation scores are above, training losses below on a log scale. Lines are means over seeds; up to eight "
        "strategies have bands from the lowest to the highest seed. Of more, fixed weights, tasks trained alone, the "
        "three that ended best in a task and the two that ended worst are in colour, and names stand in the order of "
        "the last epoch, with an arrow and the value where it is off the scale.",
        "Validation score and training loss of every task against epochs, one line per strategy.",
        _drawing("curves"),
    ),
    "weights": Plot(
        "Effective weights",
        "One panel per strategy: lines are the mean weight of each task over seeds, bands reach from the lowest to the "
        "highest seed, and the thin grey line is a weight of one.",
        "Effective weight of every task during training, one small panel per strategy.",
        _drawing("weights"),
    ),
    "cost": Plot(
        "Speed and cost",
        "Left, training samples per second; right, time per step relative to fixed weights measured in the same "
        "round, where 1 costs nothing extra; lines are 95% intervals.",
        "Throughput and cost relative to fixed weights of every strategy, for one replica and the whole stack.",
        _drawing("cost"),
    ),
}


def save_all(frames: Frames, folder: Path) -> list[Path]:
    """Draw every plot and save it as PNG and SVG.

    Args:
        frames: What to draw.
        folder: Where the files go; it is made if it is not there.

    Returns:
        The PNG files, in reading order; each SVG lies beside its PNG.
    """
    folder.mkdir(parents=True, exist_ok=True)
    saved: list[Path] = []
    for name, plot in PLOTS.items():
        figure = plot.draw(frames)
        for kind in ("svg", "png"):
            path = folder / f"{name}.{kind}"
            unfinished = folder / f".{path.name}.{os.getpid()}"
            try:
                _save(figure, unfinished, kind)
                unfinished.replace(path)
            finally:
                unfinished.unlink(missing_ok=True)
        saved.append(folder / f"{name}.png")
        figure.clear()
    return saved


def _save(figure: Figure, path: Path, kind: str) -> None:
    with theme():
        if kind == "svg":
            FigureCanvasSVG(figure).print_svg(path, metadata={"Date": None})
            return
        figure.set_dpi(200)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    image = Image.frombytes("RGBA", canvas.get_width_height(), bytes(canvas.buffer_rgba())).convert("RGB")
    # 256 colours are as good to the eye, in a third of the bytes; 64 would take strategies' colours for each other.
    image.quantize(256, dither=Image.Dither.NONE).save(path, "png", optimize=True, dpi=(200, 200))
