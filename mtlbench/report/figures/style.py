"""The style of each strategy in all plots, and matplotlib's settings while a plot is drawn or saved."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import matplotlib.style
import pandas as pd
import seaborn as sns
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D

from mtlbench.records.roles import REFERENCE, TUNED, role_of
from mtlbench.report.figures.inputs import Frames

WIDTH = 9.0  # inches
FEW = 8  # largest number of strategies that each get a line, a band and their seeds
INK, FAINT = "#333333", "#767676"
# seaborn's "colorblind" without grey and colours too pale on white; further strategies repeat it with another marker
# and line.
COLOURS = [sns.color_palette("colorblind").as_hex()[i] for i in (0, 1, 2, 4, 3, 9)]
MARKERS = "osD^v"
DASHES: list[tuple[float, ...]] = [(), (4, 1.5), (1.2, 1.2), (5, 1.2, 1.2, 1.2), (7, 2)]
BASELINES = ["#8a8a8a", "#a8a8a8"]


@dataclass(frozen=True)
class Style:
    """The style of a strategy in all plots; empty dashes are a solid line, `hollow` markers are tuned settings."""

    colour: str
    marker: str = "o"
    dashes: tuple[float, ...] = ()
    hollow: bool = False

    def line(self, label: str) -> Line2D:
        """The line of the strategy in a legend."""
        line = Line2D([], [], color=self.colour, linewidth=1.8, label=label)
        if self.dashes:
            line.set_dashes(self.dashes)
        return line

    def point(self, label: str) -> Line2D:
        """The marker of the strategy in a legend."""
        return Line2D([], [], **self.marker_look(7), linestyle="none", label=label)

    def marker_look(self, size: float) -> dict[str, Any]:
        """Settings of a single marker: edged in white, or hollow."""
        face, edge, width = ("white", self.colour, 1.5) if self.hollow else (self.colour, "white", 1.0)
        return {
            "color": self.colour, "marker": self.marker, "markersize": size - 1.5 * self.hollow,
            "markerfacecolor": face, "markeredgecolor": edge, "markeredgewidth": width,
        }  # fmt: skip

    @property
    def ink(self) -> str:
        """The colour of the strategy's name: darker, because letters are thin."""
        return _dark(self.colour)


@cache
def _dark(colour: str) -> str:
    return to_hex(sns.set_hls_values(colour, l=0.32))


def is_baseline(strategy: str) -> bool:
    """True for a task trained alone."""
    return role_of(strategy) == "single"


def shown(label: str) -> str:
    """A label as written in plots."""
    return f"{base_of(label)} tuned" if role_of(label) == "tuned" else label


def base_of(label: str) -> str:
    """The label whose colour this one shares: the untuned one of a tuned strategy, else itself."""
    return label.removeprefix(f"{TUNED}:")


def in_rows(names: Sequence[str]) -> list[str]:
    """The strategies in their order, tuned ones right after untuned ones."""
    first = {base_of(name): i for i, name in reversed(list(enumerate(names)))}
    return sorted(names, key=lambda name: (first[base_of(name)], name != base_of(name)))


def names_of(frame: pd.DataFrame, *, baselines: bool = True) -> list[str]:
    """Strategies of the frame in its order, tuned ones right after untuned ones, without the front."""
    names = map(str, frame["strategy"].unique())
    return in_rows([n for n in names if role_of(n) != "front" and (baselines or not is_baseline(n))])


def styles(frames: Frames) -> dict[str, Style]:
    """One style per strategy, by the order of the scores; the front of fixed weights has none."""
    look: dict[str, Style] = {}
    known = pd.concat([frames.scores["strategy"], frames.runs["strategy"], frames.speeds["strategy"]])
    names = [name for name in map(str, known.unique()) if role_of(name) != "front"]
    for i, name in enumerate(filter(is_baseline, names)):
        look[name] = Style(BASELINES[i % len(BASELINES)], "d", (2.5, 2))
    bases = dict.fromkeys(base_of(name) for name in names if not is_baseline(name))
    for i, base in enumerate(name for name in bases if name != REFERENCE):
        cycle = i // len(COLOURS)
        look[base] = Style(COLOURS[i % len(COLOURS)], MARKERS[cycle % 5], DASHES[cycle % 5])
    look[REFERENCE] = Style(INK)
    for name in names:
        if role_of(name) == "tuned":
            base = look[base_of(name)]
            look[name] = replace(base, hollow=True, dashes=(*(base.dashes or (7.0, 1.2)), 0.8, 1.2))
    return {name: look[name] for name in in_rows(names)}


@contextmanager
def theme() -> Generator[None]:
    """Context manager with matplotlib's settings for all plots, independent of those of the user."""
    settings = {
        "axes.edgecolor": "#b5b5b5", "axes.labelcolor": INK, "axes.labelsize": 9, "axes.linewidth": 0.8,
        "axes.titlesize": 9.5, "axes.titlelocation": "left", "axes.grid": True, "axes.axisbelow": True,
        "axes.spines.top": False, "axes.spines.right": False, "font.size": 9, "grid.color": "#ececec",
        "grid.linewidth": 0.8, "text.color": INK, "xtick.color": INK, "ytick.color": INK, "xtick.major.size": 0,
        "ytick.major.size": 0, "xtick.labelsize": 8.5, "ytick.labelsize": 8.5, "legend.frameon": False,
        "legend.fontsize": 8.5, "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
        "svg.fonttype": "none", "svg.hashsalt": "mtlbench",
    }  # fmt: skip
    with matplotlib.style.context(["default", sns.axes_style("white"), settings]):
        yield
