"""Critical difference diagrams (Demsar, JMLR 2006): mean ranks, with bars over those that do not differ."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtlbench.report.figures.canvas import blank, nothing
from mtlbench.report.figures.inputs import Overview
from mtlbench.report.figures.marks import mark
from mtlbench.report.figures.style import FAINT, INK, WIDTH
from mtlbench.report.figures.texts import wrapped
from mtlbench.stats.ranks import Ranking, cliques

# In inches; the coordinates of a panel are inches too.
ACROSS = WIDTH - 0.3
MARGIN = 2.25  # on both sides, for the names
AXIS = {"setups": 0.72, "seeds": 0.95}  # from the top of a panel to its axis
BAR, ROW = 0.075, 0.19  # distance of bars, and of names
SEEDS_ONLY = "Blocks are the seeds of one setup: ranks reflect seed noise only, not differences between setups."


def critical_difference(overview: Overview) -> Figure:
    """One diagram per ranking."""
    title = "Mean ranks of the strategies"
    rankings = [ranking for ranking in overview.rankings if len(ranking.strategies) > 1]
    if not rankings:
        return nothing(overview.caption, title, "no ranking: it needs two strategies that ran everywhere")
    heights = [_height(ranking) for ranking in rankings]
    note = "Rank 1 is best; thick bars join strategies whose mean ranks differ by less than the critical difference CD "
    note += "(Nemenyi, 5%)."
    figure = blank(overview.caption, title, sum(heights), note=note)
    panels = figure.subplots(len(rankings), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, ranking, height in zip(panels, rankings, heights, strict=True):
        ax.set(xlim=(0, ACROSS), ylim=(height, 0))
        ax.set_axis_off()
        _diagram(ax, ranking)
    return figure


def _groups(ranking: Ranking) -> list[tuple[int, int]]:
    return cliques(ranking.ranks.mean_ranks, ranking.ranks.critical_difference)


def _height(ranking: Ranking) -> float:
    rows = math.ceil(len(ranking.strategies) / 2)
    return AXIS[ranking.blocks] + 0.2 + BAR * len(_groups(ranking)) + ROW * rows + 0.12


def _diagram(ax: Axes, ranking: Ranking) -> None:
    ranks, count = np.asarray(ranking.ranks.mean_ranks), len(ranking.strategies)
    order = np.argsort(ranks, kind="stable")
    axis, scale = AXIS[ranking.blocks], (ACROSS - 2 * MARGIN) / (count - 1)

    def place(rank: float) -> float:
        return MARGIN + (rank - 1) * scale

    ax.text(0, 0.02, _heading(ranking), size=9, weight="bold", va="top")
    if ranking.blocks == "seeds":
        ax.text(0, 0.22, SEEDS_ONLY, size=8.5, va="top", color="#a34700", weight="bold")
    ax.plot([place(1), place(count)], [axis, axis], color=INK, linewidth=1.0)
    for rank in range(1, count + 1):
        major = count <= 12 or rank in (1, count) or (rank % 5 == 0 and rank < count - 1)
        ax.plot([place(rank)] * 2, [axis - (0.07 if major else 0.04), axis], color=INK, linewidth=0.8)
        if major:
            ax.text(place(rank), axis - 0.09, f"{rank}", size=8, ha="center", va="bottom")
    _scale_bar(ax, ranking.ranks.critical_difference, axis - 0.36, place, count)

    groups = _groups(ranking)
    for i, (first, last) in enumerate(groups):
        y = axis + 0.1 + BAR * i
        left, right = (place(float(ranks[order[end]])) for end in (first, last))
        ax.plot([left - 0.03, right + 0.03], [y, y], color=INK, linewidth=3, solid_capstyle="butt", zorder=3)
    top = axis + 0.2 + BAR * len(groups)
    half = math.ceil(count / 2)
    for position, index in enumerate(order):
        name, rank = ranking.strategies[int(index)], float(ranks[index])
        left = position < half
        y = top + ROW * (position if left else count - 1 - position)
        side = 0.12 if left else -0.12
        end = (MARGIN if left else ACROSS - MARGIN) - side
        tooltip = f"{name}: mean rank {rank:.2f}"
        mark(ax.plot([place(rank), place(rank), end], [axis, y, y], color="#7a7a7a", linewidth=0.8), name, tooltip)
        value = ax.text(end - side / 4, y, f"{rank:.1f}", size=7, color=FAINT)
        text = ax.text(end - 2.7 * side, y, wrapped(name, 27, 1), size=8)
        for words in (value, text):
            words.set(ha="right" if left else "left", va="center_baseline")
            mark(words, name, tooltip)


def _heading(ranking: Ranking) -> str:
    p = ranking.ranks.p
    friedman = "no Friedman test" if math.isnan(p) else f"Friedman p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
    return f"{ranking.score}: {ranking.ranks.blocks} {ranking.blocks} as blocks, {friedman}"


def _scale_bar(ax: Axes, difference: float, y: float, place: Callable[[float], float], count: int) -> None:
    """The critical difference, to the scale of the axis; as text only if it is longer than the axis."""
    if not math.isfinite(difference):
        return
    text = f"CD = {difference:.2f}"
    if difference > count - 1:
        text += ": longer than the axis, so no strategies can be distinguished"
        ax.text(place(1), y, text, size=8, va="center")
        return
    left, right = place(1), place(1 + difference)
    ax.plot([left, right], [y, y], color=INK, linewidth=1.4)
    for x in (left, right):
        ax.plot([x, x], [y - 0.04, y + 0.04], color=INK, linewidth=1.4)
    ax.text(right + 0.06, y, text, size=8, va="center")
