"""The plots: that they draw what they are given, alike every time, and that one can read them."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from mtlbench.report.figures.many_lines import apart
from mtlbench.report.figures.style import styles
from mtlbench.report.plots import PLOTS, save_all
from tests.helpers.frames import (
    AUXILIARY,
    FIVE,
    FRONT,
    MAIN,
    MANY,
    THIRTY,
    Points,
    failing,
    make_frames,
    renamed,
    with_outlier,
)
from tests.helpers.readable import assert_readable, boxes_of


def points_of(ax: Axes) -> Points:
    """Every scattered point, `[points, 2]`."""
    return np.concatenate([np.asarray(dots.get_offsets(), dtype=float) for dots in ax.collections])


def colours_of(plot: str, figure: Figure) -> dict[str, str]:
    """Which colour the plot gives to each strategy, read from its artists."""
    ax = figure.axes[0]
    if plot == "curves":
        (legend,) = figure.legends
        lines = zip(legend.get_texts(), legend.get_lines(), strict=True)
        return {text.get_text(): to_hex(str(line.get_color())) for text, line in lines}
    if plot == "weights":
        return {panel.get_title("left"): to_hex(str(panel.lines[-1].get_color())) for panel in figure.axes}
    markers = [line for line in ax.lines if np.size(line.get_xdata()) == 1]
    if plot == "trade-off":
        names = [t.get_text() for t in ax.texts if t.get_text() and not t.get_text().startswith("single:")]
        return {name: to_hex(str(line.get_color())) for name, line in zip(names, markers, strict=True)}
    labels = [label.get_text() for label in ax.get_yticklabels()]
    return {labels[round(float(np.ravel(m.get_ydata())[0]))]: to_hex(str(m.get_color())) for m in markers}


CASES = {
    "typical": make_frames(),
    "tuned and a front": make_frames(MANY[:10], tuned=MANY[:3], front=FRONT),
    "one seed": make_frames(FIVE[:3], seeds=1),
    "eight labels": make_frames((*FIVE, "pcgrad", "nash_mtl", "random"), seeds=16),
    "two strategies, many tasks": make_frames(FIVE[:2], epochs=1, points=1, more_tasks=("parity", "prime", "round")),
    "long names": renamed(
        make_frames(more_tasks=("rooms",)),
        {MAIN: "price-of-a-house-in-euros-before-all-tax", AUXILIARY: "price_of_a_garden_in_euros_before_taxes_"},
        "mean absolute error of it (in 1,000 EUR)",
    ),
    "failing": failing(make_frames()),
    "a whole bench": with_outlier(make_frames(MANY, points=20), "mgda"),
    "thirty strategies": make_frames(THIRTY, points=20, tuned=THIRTY[:3], front=FRONT),
}


@cache
def drawn(case: str, plot: str) -> Figure:
    return PLOTS[plot].draw(CASES[case])


# Where a case looks like another one in a plot, it is not drawn.
ONLY = {
    "long names": ("accuracy", "auxiliary", "trade-off", "curves", "weights"),
    "eight labels": ("trade-off", "curves"),
    "two strategies, many tasks": ("auxiliary", "curves", "weights"),
}


@pytest.mark.parametrize(("case", "plot"), [(case, plot) for case in CASES for plot in ONLY.get(case, tuple(PLOTS))])
def test_texts_are_inside_and_apart(case: str, plot: str) -> None:
    assert_readable(drawn(case, plot))
    assert not plt.get_fignums()


def test_rows_follow_the_table() -> None:
    for plot in ("accuracy", "auxiliary", "cost"):
        labels = [text.get_text() for text in drawn("typical", plot).axes[0].get_yticklabels()]
        assert [name for name in labels if not name.startswith("single:")] == list(FIVE)


def test_every_seed_is_a_point() -> None:
    frames = CASES["typical"]
    (ax,) = drawn("typical", "accuracy").axes
    points = points_of(ax)[:, 0]
    expected = frames.runs.loc[frames.runs["task"] == MAIN, "score"]
    np.testing.assert_allclose(np.sort(points), np.sort(expected))
    assert ax.get_xlim()[0] < points.min()
    assert points.max() < ax.get_xlim()[1] < 1


def test_a_collapsed_strategy_does_not_hide_the_others() -> None:
    (ax,) = drawn("failing", "accuracy").axes
    low, high = ax.get_xlim()
    assert 0.97 < low < high < 0.99
    assert len(points_of(ax)) == 4 * 10  # gradnorm has no number, uncertainty is off the scale with every seed
    (off,) = (line for line in ax.lines if line.get_marker() == "<")
    np.testing.assert_allclose(np.asarray(off.get_xydata()), [[low, FIVE.index("uncertainty")]])
    assert any(text.startswith("11.") for text, _ in boxes_of(drawn("failing", "accuracy")))
    captions = " ".join(text for text, _ in boxes_of(drawn("failing", "trade-off"))).split()
    assert "uncertainty (11.43%, 2.35%); 1 more seed" in " ".join(captions)


def test_one_colour_per_strategy() -> None:
    look = {name: style.colour for name, style in styles(CASES["typical"]).items()}
    weighting = {name: colour for name, colour in look.items() if not name.startswith("single:")}
    for plot in PLOTS:
        found = colours_of(plot, drawn("typical", plot))
        assert weighting.items() <= found.items() <= look.items(), plot
    assert look["fixed"] == "#333333"


def test_thirty_strategies_stay_distinct() -> None:
    look = styles(CASES["thirty strategies"])
    assert len({(s.colour, s.marker, s.dashes, s.hollow) for s in look.values()}) == len(look) == 35


def test_styles_do_not_depend_on_what_failed() -> None:
    assert styles(CASES["failing"]) == styles(CASES["typical"])


def test_a_bench_without_speeds_says_so() -> None:
    assert not drawn("failing", "cost").axes
    assert len(boxes_of(drawn("failing", "cost"))) == 3  # title, reason and caption


def test_nothing_finished() -> None:
    full = CASES["typical"]
    empty = {name: getattr(full, name).iloc[:0] for name in ("runs", "curves", "scores", "speeds")}
    for plot in PLOTS.values():
        assert_readable(plot.draw(replace(full, **empty)))
    for plot in PLOTS.values():
        assert_readable(plot.draw(replace(full, tasks=(MAIN,))))


def test_squared_error_is_not_a_share() -> None:
    full = CASES["typical"]
    runs, scores = (f.assign(metric=f["metric"].replace({"error": "squared error"})) for f in (full.runs, full.scores))
    (ax,) = PLOTS["auxiliary"].draw(replace(full, runs=runs, scores=scores)).axes
    assert "%" not in "".join(t.get_text() for t in ax.get_xticklabels())


def test_saved_files(tmp_path: Path) -> None:
    frames = make_frames(seeds=16)
    saved = save_all(PLOTS, frames, tmp_path / "new" / "plots")
    with plt.rc_context({"svg.fonttype": "path", "svg.hashsalt": None, "font.size": 20, "axes.grid": True}):
        again = save_all(PLOTS, frames, tmp_path / "again")
    assert [one.name for one in saved] == list(PLOTS)
    assert len(list((tmp_path / "new" / "plots").iterdir())) == 2 * len(PLOTS)
    for one, other in zip(saved, again, strict=True):
        path, svg = one.png, one.png.with_suffix(".svg").read_text()
        assert svg == one.svg == other.svg
        assert path.read_bytes() == other.png.read_bytes()
        assert one.marks == other.marks
        assert re.search(r"<text[^>]*>uncertainty</text>", svg)
        assert path.stat().st_size < 150_000
        assert len(svg) < 200_000
        assert plt.imread(path).shape[1] == 1800
    assert not plt.get_fignums()


def test_a_failed_save_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: Path, content: bytes) -> None:
        with file.open("wb") as opened:
            opened.write(content[:10])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        save_all(PLOTS, CASES["typical"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_many_names_stand_beside_their_points() -> None:
    figure = drawn("a whole bench", "trade-off")
    names = {text for text, _ in boxes_of(figure)}
    assert set(MANY) - {"mgda"} <= names
    assert not figure.legends
    assert any("mgda (" in " ".join(name.split()) for name in names)
    assert drawn("thirty strategies", "trade-off").legends  # names that are too long for it


@pytest.mark.parametrize(("column", "task"), [(0, MAIN), (1, AUXILIARY)])
def test_many_curves_are_named_in_the_order_of_their_ends(column: int, task: str) -> None:
    frames, figure = CASES["a whole bench"], drawn("a whole bench", "curves")
    last = frames.curves[(frames.curves["split"] == "validation") & (frames.curves["epoch"] == 3)]
    means = last[last["task"] == task].groupby("strategy")["score"].mean().sort_values()
    texts = sorted((t for t in figure.axes[column].texts), key=lambda text: text.get_window_extent().y0)
    named = [text.get_text().partition(" ")[0] for text in texts]
    assert named == list(means.index)
    bold = {name for name, text in zip(named, texts, strict=True) if text.get_fontproperties().get_weight() == "bold"}
    best, worst = (named[-3:], named[:2]) if task == MAIN else (named[:3], named[-2:])
    others = {"fixed", f"single:{task}"}
    assert others < bold
    assert len(bold - others) == 5
    assert {name for name in (*best, *worst) if name not in others} <= bold


def test_an_outlier_leaves_the_others_their_room() -> None:
    frames = CASES["a whole bench"]
    for plot, axes in {"accuracy": (0,), "trade-off": (0,), "curves": (0, 2)}.items():
        for ax in (drawn("a whole bench", plot).axes[i] for i in axes):
            which = ax.get_xlim() if plot == "accuracy" else ax.get_ylim()
            loss = plot == "curves" and ax.get_yscale() == "log"
            if loss:
                assert which[1] < 1.5
            else:
                assert 0.93 < which[0] < which[1] < 1
    assert any(text.startswith("mgda ↓ 7") for text, _ in boxes_of(drawn("a whole bench", "curves")))
    assert any(text.startswith("mgda ↑ ") for text, _ in boxes_of(drawn("a whole bench", "curves")))
    assert drawn("a whole bench", "cost").axes[1].get_xscale() == "log"
    means = frames.curves.groupby(["strategy", "task", "epoch"])["weight"].mean()
    low, high = drawn("a whole bench", "weights").axes[0].get_ylim()
    assert low < means.min() < means.max() < high


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0, 1 / 30))
def test_labels_moved_apart_keep_order_room_and_what_was_free(places: list[float], gap: float) -> None:
    wanted = np.sort(np.asarray(places))
    found = apart(wanted, gap)
    assert (np.diff(found) >= gap - 1e-9).all()
    assert found.min() >= -1e-9
    assert found.max() <= 1 + 1e-9
    if (np.diff(wanted) >= gap).all():
        np.testing.assert_allclose(found, wanted, atol=1e-9)
    elif found.min() > 0 and found.max() < 1:
        assert found.mean() == pytest.approx(wanted.mean())  # moved by least squares, so as a whole nowhere
