"""The plots: that they draw what they are given, alike every time, and that one can read them."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from itertools import combinations
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from mtlbench import tables
from mtlbench.figures.ranked import apart
from mtlbench.plots import PLOTS, Frames, save_all, styles

Points = NDArray[np.float64]

MAIN, AUXILIARY = "digit", "above_five"
FIVE = ("fixed", "uncertainty", "gradnorm", "dwa", "fixed:weights=[1,0.1]")
THIRTY = ("fixed", *(f"method_{i}:temperature={i / 10},weights=[1,0.1]" for i in range(29)))


MANY = (
    "fixed", "aligned-mtl", "cagrad", "config", "db-mtl", "dualproj", "dwa", "excessmtl", "fairgrad", "famo",
    "geometric", "go4align", "graddrop", "gradnorm", "gradvac", "imtl", "imtl-g", "imtl-l", "mgda", "moco", "modo",
    "nashmtl", "pcgrad", "rlw", "sdmgrad", "stch", "uncertainty", "uncertainty-softmax",
)  # fmt: skip


def make_frames(
    strategies: tuple[str, ...] = FIVE,
    seeds: int = 10,
    epochs: int = 3,
    points: int = 60,
    more_tasks: tuple[str, ...] = (),
) -> Frames:
    """Frames as a bench on MNIST would give them: accuracies near 98%, 0.1% apart from seed to seed."""
    rng = np.random.default_rng(0)
    tasks = (MAIN, AUXILIARY, *more_tasks)
    names = [*strategies, *(f"single:{task}" for task in tasks[:2])]
    effects = {name: rng.normal(0, 0.0012) * (name != "fixed") for name in names}
    luck = rng.normal(0, 0.0005, (len(tasks), seeds))
    runs, curves, scores, costs = [], [], [], []
    for name in names:
        own = [t for t in tasks if not name.startswith("single:") or name == f"single:{t}"]
        for task in own:
            t, metric = tasks.index(task), "accuracy" if task == MAIN else "error"
            drawn = (
                0.018 + 0.004 * (t > 0) - effects[name] * (1 - 1.6 * (t > 0)) + luck[t] + rng.normal(0, 0.0008, seeds)
            )
            values = 1 - drawn if task == MAIN else drawn
            for seed, value in enumerate(values):
                runs.append((name, seed, task, metric, value, 0.06 + 5 * rng.normal(0, 0.001)))
                steps = np.arange(1, points + 1) * epochs / points
                drift = 0.25 * (hash_of(name) - 0.5) * np.log1p(3 * steps) * (1 if task == MAIN else -1)
                for step, move in zip(steps, drift, strict=True):
                    loss = (0.05 + 0.5 / (1 + 6 * step)) * np.exp(rng.normal(0, 0.05)) * (1 + 40 * effects[name])
                    weight = (0.1 if "0.1]" in name and task == AUXILIARY else 1) + (move + rng.normal(0, 0.03)) * (
                        not name.startswith(("fixed", "single:"))
                    )
                    curves.append((name, seed, "training", step, task, loss, np.nan, weight, np.nan, np.nan))
                for epoch in range(1, epochs + 1):
                    error = drawn[seed] + 0.016 * np.exp(-1.2 * (epoch - 1)) + rng.normal(0, 0.0005)
                    score = 1 - error if task == MAIN else error
                    curves.append((name, seed, "validation", float(epoch), task, 0.07, score, *[np.nan] * 3))
            half = 2.26 * values.std(ddof=1) / np.sqrt(seeds) if seeds > 1 else np.nan
            mean = values.mean()
            change = np.nan if name == "fixed" else mean - scores[t][4]
            interval = (change - half, change + half)
            scores.append((name, task, metric, seeds, mean, mean - half, mean + half, change, *interval))
        if not name.startswith("single:"):
            for replicas in sorted({1, seeds}):
                ratio = 1 + (name != "fixed") * (0.05 + 0.8 * hash_of(name)) / replicas**0.3
                speed = 9000 * replicas**0.6 / ratio
                costs.append(
                    (name, replicas, speed, 0.97 * speed, 1.03 * speed, ratio, ratio - 0.03, ratio + 0.04, None)
                )
    return Frames(
        runs=pd.DataFrame(runs, columns=tables.RUN_COLUMNS),
        curves=pd.DataFrame(curves, columns=tables.CURVE_COLUMNS),
        scores=pd.DataFrame(scores, columns=tables.SCORE_COLUMNS),
        costs=pd.DataFrame(costs, columns=tables.COST_COLUMNS),
        tasks=tasks,
        caption=f"mnist, {seeds} seeds, {epochs} epochs, batch 64, Adam lr 0.001, cpu. Failed: nash_mtl (singular).",
    )


def hash_of(name: str) -> float:
    """A number in 0..1 that is the same in every process."""
    return sum(i * ord(c) for i, c in enumerate(name, 1)) % 97 / 97


def texts_of(figure: Figure) -> list[Text]:
    """Every text that is drawn, the legends' included."""
    shown = {id(t): t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()}
    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not (tick.get_visible() and low <= tick.get_loc() <= high):
                for label in (tick.label1, tick.label2):
                    shown.pop(id(label), None)
    return list(shown.values())


def boxes_of(figure: Figure) -> list[tuple[str, Bbox]]:
    renderer = FigureCanvasAgg(figure).get_renderer()
    return [(t.get_text(), t.get_window_extent(renderer)) for t in texts_of(figure)]


def assert_readable(figure: Figure) -> None:
    """Every text lies inside the figure, and no two texts overlap."""
    boxes = boxes_of(figure)
    page = figure.bbox.padded(0.5)
    for text, box in boxes:
        assert page.contains(box.x0, box.y0), f"{text!r} leaves the figure"
        assert page.contains(box.x1, box.y1), f"{text!r} leaves the figure"
    for (one, a), (other, b) in combinations(boxes, 2):
        # Half a pixel is rounding.
        assert not a.padded(-0.5).overlaps(b.padded(-0.5)), f"{one!r} and {other!r} overlap"


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


def failing(frames: Frames) -> Frames:
    """The same with a strategy that collapsed in every seed, one that did in one, and one without a number."""
    runs, scores, curves = frames.runs.copy(), frames.scores.copy(), frames.curves.copy()
    for frame in (runs, scores, curves):
        values = [c for c in ("score", "loss", "mean", "low", "high", "weight") if c in frame]
        frame.loc[frame["strategy"] == "gradnorm", values] = np.nan
        collapsed = (frame["strategy"] == "uncertainty") & (frame["task"] == MAIN)
        for column in {"score", "mean", "low", "high"} & set(frame):
            frame.loc[collapsed, column] = frame.loc[collapsed, column] - 0.87
    runs.loc[(runs["strategy"] == "dwa") & (runs["seed"] == 3), ["score", "loss"]] = (0.11, np.inf)
    return replace(frames, runs=runs, scores=scores, curves=curves, costs=frames.costs.iloc[:0])


def with_outlier(frames: Frames, name: str) -> Frames:
    """The same with one strategy whose main task is far from all others, in every number."""
    far = {"score": -0.2, "mean": -0.2, "low": -0.25, "high": -0.15, "loss": 2.0, "weight": 30.0, "ratio": 9.0}
    parts = {part: getattr(frames, part).copy() for part in ("runs", "scores", "curves", "costs")}
    for frame in parts.values():
        there = (frame["strategy"] == name) & (frame["task"] == MAIN if "task" in frame else True)
        for column, change in far.items():
            if column in frame:
                frame.loc[there, column] += change
    return replace(frames, **parts)


CASES = {
    "typical": make_frames(),
    "one seed": make_frames(FIVE[:3], seeds=1),
    "eight labels": make_frames((*FIVE, "pcgrad", "nash_mtl", "random"), seeds=16),
    "two strategies, many tasks": make_frames(FIVE[:2], epochs=1, points=1, more_tasks=("parity", "prime", "round")),
    "failing": failing(make_frames()),
    "a whole bench": with_outlier(make_frames(MANY, points=20), "mgda"),
    "thirty strategies": make_frames(THIRTY, points=20),
}


@cache
def drawn(case: str, plot: str) -> Figure:
    return PLOTS[plot].draw(CASES[case])


# Where a case looks like another one in a plot, it is not drawn.
ONLY = {"eight labels": ("trade-off", "curves"), "two strategies, many tasks": ("auxiliary", "curves", "weights")}


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
    assert "Off the scale: uncertainty (11.25%, 2.25%); 1 more seed." in " ".join(captions)


def test_one_colour_per_strategy() -> None:
    look = {name: style.colour for name, style in styles(CASES["typical"]).items()}
    weighting = {name: colour for name, colour in look.items() if not name.startswith("single:")}
    for plot in PLOTS:
        found = colours_of(plot, drawn("typical", plot))
        assert weighting.items() <= found.items() <= look.items(), plot
    assert look["fixed"] == "#333333"


def test_thirty_strategies_stay_distinct() -> None:
    look = styles(CASES["thirty strategies"])
    assert len({(s.colour, s.marker, s.dashes) for s in look.values()}) == len(look) == 32


def test_styles_do_not_depend_on_what_failed() -> None:
    assert styles(CASES["failing"]) == styles(CASES["typical"])


def test_no_costs_says_so() -> None:
    assert "not measured" in {text for text, _ in boxes_of(drawn("failing", "cost"))}


def test_nothing_finished() -> None:
    full = CASES["typical"]
    empty = {name: getattr(full, name).iloc[:0] for name in ("runs", "curves", "scores", "costs")}
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
    saved = save_all(frames, tmp_path / "new" / "plots")
    with plt.rc_context({"svg.fonttype": "path", "svg.hashsalt": None, "font.size": 20, "axes.grid": True}):
        again = save_all(frames, tmp_path / "again")
    assert [path.stem for path in saved] == list(PLOTS)
    assert len(list((tmp_path / "new" / "plots").iterdir())) == 2 * len(PLOTS)
    for path, other in zip(saved, again, strict=True):
        svg = path.with_suffix(".svg").read_text()
        assert svg == other.with_suffix(".svg").read_text()
        assert path.read_bytes() == other.read_bytes()
        assert re.search(r"<text[^>]*>uncertainty</text>", svg)
        assert path.stat().st_size < 150_000
        assert len(svg) < 200_000
        assert plt.imread(path).shape[1] == 1800
    assert not plt.get_fignums()


def test_a_failed_save_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_canvas: FigureCanvasSVG, file: Path, **_: object) -> None:
        file.write_text("<svg")
        raise OSError("disk full")

    monkeypatch.setattr(FigureCanvasSVG, "print_svg", fail)
    with pytest.raises(OSError, match="disk full"):
        save_all(CASES["typical"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_many_names_stand_beside_their_points() -> None:
    figure = drawn("a whole bench", "trade-off")
    names = {text for text, _ in boxes_of(figure)}
    assert set(MANY) - {"mgda"} <= names
    assert not figure.legends
    assert any("Off the scale: mgda (" in " ".join(name.split()) for name in names)
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
