"""Plots across setups, the front of fixed weights, tuned strategies, and what is marked in a figure."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mtlbench.records.roles import role_of
from mtlbench.report.figures.inputs import Frames, Overview
from mtlbench.report.figures.marks import marks_of
from mtlbench.report.figures.style import styles
from mtlbench.report.plots import OVERVIEW_PLOTS, PLOTS, save_all
from mtlbench.stats.ranks import Ranks
from tests.helpers.frames import FIVE, FRONT, MAIN, MANY, THIRTY, make_frames, make_overview
from tests.helpers.readable import assert_readable, boxes_of

THIRTY_NAMES = (*MANY, "a-one", "b-two")


@cache
def frames() -> Frames:
    return make_frames(tuned=FIVE[:3], front=FRONT)


@cache
def overview(case: str) -> Overview:
    return {
        "many": lambda: make_overview(THIRTY_NAMES, 9),
        "few": lambda: make_overview(MANY[:10], 3),
        "one setup": lambda: make_overview(MANY[:3], 1),
        "long names": lambda: make_overview(THIRTY, 5, delta_m=False),
        "two strategies": lambda: make_overview(MANY[:2], 2, seeds=3),
    }[case]()


@cache
def across(case: str, plot: str) -> Figure:
    return OVERVIEW_PLOTS[plot].draw(overview(case))


def texts(figure: Figure) -> str:
    return " ".join(" ".join(text.split()) for text, _ in boxes_of(figure))


def colour_of(figure: Figure, tooltip: str) -> str:
    """The colour of the heat map's cell that says this."""
    gids = {gid for gid, mark in marks_of(figure).items() if tooltip in mark.tooltip}
    (cell,) = (p for ax in figure.axes for p in ax.patches if isinstance(p, Rectangle) and p.get_gid() in gids)
    return to_hex(cell.get_facecolor())


@pytest.mark.parametrize("plot", OVERVIEW_PLOTS)
@pytest.mark.parametrize("case", ["many", "few", "one setup", "long names", "two strategies"])
def test_texts_are_inside_and_apart(case: str, plot: str) -> None:
    assert_readable(across(case, plot))


def test_nothing_to_compare() -> None:
    empty = replace(overview("few"), scores=overview("few").scores.iloc[:0], rankings=[])
    for plot in OVERVIEW_PLOTS.values():
        assert_readable(plot.draw(empty))


def test_every_mark_is_an_id_of_the_svg(tmp_path: Path) -> None:
    saved = [*save_all(PLOTS, frames(), tmp_path), *save_all(OVERVIEW_PLOTS, overview("few"), tmp_path)]
    for one in saved:
        ids = re.findall(r'<g id="(mark-[0-9]+)"', one.svg)
        assert sorted(ids) == sorted(one.marks), one.name
        drawn = {mark.strategy for mark in one.marks.values()}
        assert all(role_of(name) == "strategy" or name in styles(frames()) for name in drawn - {"front"})
        assert "gradnorm" in drawn or one.name in OVERVIEW_PLOTS
        assert ("front" in drawn) == (one.name == "trade-off")


def test_tooltips_say_the_numbers() -> None:
    scores = frames().scores
    (row,) = scores[(scores["strategy"] == "gradnorm") & (scores["task"] == MAIN)].to_dict("records")
    tooltips = {mark.tooltip for mark in marks_of(PLOTS["accuracy"].draw(frames())).values()}
    assert f"gradnorm: {row['mean']:.2%} [{100 * row['low']:.2f}, {100 * row['high']:.2f}]" in tooltips


def test_the_front_is_drawn_in_the_trade_off_only() -> None:
    for name, plot in PLOTS.items():
        text = texts(plot.draw(frames()))
        assert "front" not in text
        assert ("main-task share 0 to 1" in text) == (name == "trade-off")
    figure = PLOTS["trade-off"].draw(frames())
    assert re.search(r"shares off the scale: 0 \(10[.]..%, 2[.]..%\); 1 \(98[.]..%, 50[.]..%\)", texts(figure))
    assert "upper left" in texts(figure)
    (ax,) = figure.axes
    (sweep,) = (line for line in ax.lines if np.size(line.get_xdata()) == len(FRONT) + 1)
    marks = marks_of(figure)
    ours = [
        x for x in ax.lines if (gid := x.get_gid()) in marks and role_of(marks[gid].strategy) in ("strategy", "tuned")
    ]
    assert sweep.get_zorder() < min(line.get_zorder() for line in ours)
    low, high = ax.get_ylim()
    assert 0.97 < low < high < 0.99


def test_two_points_are_no_front() -> None:
    few = make_frames(front=(0.1, 0.9))
    assert "share" not in texts(PLOTS["trade-off"].draw(few))


def test_tuned_strategies_stand_below_their_own_and_hollow() -> None:
    look = styles(frames())
    assert look["tuned:gradnorm"].colour == look["gradnorm"].colour
    assert look["tuned:gradnorm"].hollow
    assert styles(make_frames())["gradnorm"] == look["gradnorm"]
    (ax,) = PLOTS["accuracy"].draw(frames()).axes
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == [
        "fixed", "… tuned", "uncertainty", "… tuned", "gradnorm", "… tuned", "dwa", "fixed:weights=[1,0.1]",
        f"single:{MAIN}",
    ]  # fmt: skip


def test_what_is_significant_is_bold() -> None:
    scores = frames().scores
    told = scores[(scores["task"] == MAIN) & scores["verdict"].isin(["better", "worse"])]
    figure = PLOTS["accuracy"].draw(frames())
    bold = [text for text in figure.axes[0].texts if text.get_fontproperties().get_weight() == "bold"]
    assert len(bold) == len(told) > 0
    assert "80% power" in texts(figure)
    assert "80% power" not in texts(PLOTS["accuracy"].draw(make_frames(seeds=3)))


def test_cells_are_blue_where_better_and_grey_where_not_significant() -> None:
    scores = overview("few").scores.copy()
    of_main = (scores["task"] == MAIN) & (scores["setup"] == "mnist")
    given = (("dwa", 0.002, "better"), ("famo", -0.002, "worse"), ("config", 0.5, "none shown"))
    for strategy, change, verdict in given:
        there = of_main & (scores["strategy"] == strategy)
        scores.loc[there, ["difference", "verdict"]] = (change, verdict)
    scores = scores[~(of_main & (scores["strategy"] == "cagrad"))]
    figure = OVERVIEW_PLOTS["heat-map"].draw(replace(overview("few"), scores=scores))
    red, _, blue = (int(colour_of(figure, "dwa on mnist: +0.20")[i : i + 2], 16) for i in (1, 3, 5))
    assert blue > red
    red, _, blue = (int(colour_of(figure, "famo on mnist: −0.20")[i : i + 2], 16) for i in (1, 3, 5))
    assert blue < red
    assert colour_of(figure, "config on mnist: +50.0") == colour_of(figure, "cagrad on mnist: no score") == "#ffffff"
    names = {mark.strategy for mark in marks_of(figure).values()}
    assert names == set(MANY[1:10])


def test_errors_are_better_when_smaller() -> None:
    scores = overview("few").scores.copy()
    main = scores["task"] == MAIN
    scores.loc[main, ["metric", "better"]] = ("squared error", "lower")
    scores.loc[main & (scores["strategy"] == "dwa"), ["difference", "verdict"]] = (-0.3, "worse")
    figure = OVERVIEW_PLOTS["heat-map"].draw(replace(overview("few"), scores=scores))
    colour = colour_of(figure, "dwa on mnist: −0.3 ")
    assert int(colour[5:], 16) > int(colour[1:3], 16)


def test_the_critical_difference_is_to_scale() -> None:
    ranking = overview("few").rankings[0]
    figure = across("few", "ranks")
    ax = figure.axes[0]
    axis = ax.lines[0].get_xdata()
    (bar,) = (line for line in ax.lines if line.get_linewidth() == 1.4 and np.ptp(np.asarray(line.get_ydata())) == 0)
    per_rank = np.ptp(np.asarray(axis)) / (len(ranking.strategies) - 1)
    assert np.ptp(np.asarray(bar.get_xdata())) == pytest.approx(ranking.ranks.critical_difference * per_rank)


def test_a_difference_without_a_test_and_one_beyond_the_axis_are_said() -> None:
    ranking = overview("few").rankings[0]
    untested = replace(ranking, ranks=Ranks(ranking.ranks.mean_ranks, math.nan, math.nan, 1))
    beyond = replace(ranking, ranks=replace(ranking.ranks, critical_difference=30.0))
    text = texts(OVERVIEW_PLOTS["ranks"].draw(replace(overview("few"), rankings=[untested, beyond])))
    assert text.count("Friedman p") == 1
    assert text.count("CD = ") == 1
    assert "CD = 30.00" in text


def test_ranks_over_seeds_say_what_they_are_not() -> None:
    assert "seed noise" in texts(across("one setup", "ranks"))
    assert texts(across("few", "ranks")).count("seed noise only") == 1
