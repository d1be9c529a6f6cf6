"""What each plot draws. No statistics here: means and intervals come with the frames.

Only bands over training (smallest to largest value of the seeds) are taken while drawing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, PercentFormatter, StrMethodFormatter
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from mtlbench.plots import DASHES, FAINT, INK, Frames, Style, is_baseline, nothing, page, styles

Floats = NDArray[np.float64]

MAX_FACETS = 3
MAX_DIRECT_LABELS = 8
MAX_BANDS = 9  # eight strategies and the task alone


def wrapped(label: str, width: int = 34, lines: int = 2) -> str:
    """The label on at most that many lines, broken after a colon or comma, shortened in the middle if need be."""
    filled = [""]
    for part in re.split(r"(?<=[:,])(?![^\[]*\])", label):
        if filled[-1] and len(filled[-1] + part) > width and len(filled) < lines:
            filled.append("")
        filled[-1] += part
    half = width // 2
    return "\n".join(x if len(x) <= width else f"{x[:half]}…{x[1 - half :]}" for x in filled)


def rows_of(frame: pd.DataFrame, **where: object) -> pd.DataFrame:
    """The rows whose columns have these values."""
    for column, value in where.items():
        frame = frame[frame[column] == value]
    return frame


def floats(frame: pd.DataFrame, *columns: str) -> Floats:
    """Columns as numbers, `[rows, columns]`."""
    return frame[list(columns)].to_numpy(dtype=np.float64, na_value=np.nan)


def intervals_of(frames: Frames, task: str) -> dict[str, Floats]:
    """Mean and interval, `[3]`, of each strategy in one task."""
    rows = rows_of(frames.scores, task=task)
    return dict(zip(map(str, rows["strategy"]), floats(rows, "mean", "low", "high"), strict=True))


def metric_of(frames: Frames, task: str) -> str:
    """What the task's score measures."""
    found = pd.concat([frames.scores, frames.runs]).query("task == @task")["metric"]
    return str(found.iloc[0]) if len(found) else "score"


def is_share(metric: str) -> bool:
    """Whether the score is a share, drawn as per cent."""
    return metric in {"accuracy", "error"}


def better(metric: str) -> str:
    """The direction to look for."""
    return "higher is better" if metric == "accuracy" else "lower is better"


def number(value: float, metric: str, *, signed: bool = False) -> str:
    """A score, or a difference of scores (in percentage points), as text."""
    if not math.isfinite(value):
        return "–"
    scaled, unit = (100 * value, "%") if is_share(metric) else (value, "")
    digits = ".2f" if is_share(metric) else ".4g"
    return (f"{scaled:+{digits}}" if signed else f"{scaled:{digits}}{unit}").replace("-", "−")


def limits(values: Floats, reach: float = 30.0) -> tuple[float, float]:
    """Limits around all values but those that would hide the others: `reach` times the median distance away."""
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    distances = np.abs(values - np.median(values))
    near = values[distances <= reach * np.median(distances)] if np.median(distances) else values
    low, high = float(near.min()), float(near.max())
    margin = 0.06 * (high - low) or 0.02 * abs(high) or 0.02
    return low - margin, high + margin


def number_axis(ax: Axes, which: str, metric: str, bins: int = 6) -> None:
    """Round ticks, in per cent for shares."""
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_locator(MaxNLocator(bins, steps=[1, 2, 5, 10]))
    if is_share(metric):
        ticks = axis.get_major_locator().tick_values(*axis.get_view_interval())
        digits = -math.floor(math.log10(100 * (ticks[1] - ticks[0])) + 1e-6)
        axis.set_major_formatter(PercentFormatter(1, decimals=max(0, digits)))


def log_axis(ax: Axes, which: str) -> None:
    """A log scale with plain numbers."""
    ax.set(**{f"{which}scale": "log"})
    axis = ax.xaxis if which == "x" else ax.yaxis
    low, high = sorted(axis.get_view_interval())
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 150 * low else (1,)))
    axis.set_major_formatter(StrMethodFormatter("{x:,.6g}"))
    axis.set_minor_locator(NullLocator())


def strategy_axis(ax: Axes, names: Sequence[str]) -> None:
    """Strategies from top to bottom on the y axis."""
    ax.set(ylim=(len(names) - 0.4, -0.6), yticks=range(len(names)), yticklabels=[wrapped(n) for n in names])
    ax.spines["left"].set_visible(False)


def height_of(names: Sequence[str]) -> float:
    """Inches for the axes of a plot with one row per strategy."""
    return 0.75 + len(names) * (0.4 if len(names) <= 10 else 0.3)


def names_of(frame: pd.DataFrame, *, baselines: bool = True) -> list[str]:
    """The frame's strategies, in its order."""
    return [str(n) for n in frame["strategy"].unique() if baselines or not is_baseline(str(n))]


def forest(ax: Axes, frames: Frames, task: str, names: list[str], *, numbers: bool) -> None:
    """One row per strategy: every seed, the mean and its interval; where `numbers`, the same as text."""
    look, metric = styles(frames), metric_of(frames, task)
    scores, runs = rows_of(frames.scores, task=task), rows_of(frames.runs, task=task)
    intervals = floats(scores, "mean", "low", "high")
    shown = limits(np.concatenate([intervals.ravel(), floats(runs, "score").ravel()]))
    strategy_axis(ax, names)
    ax.set_xlim(*shown)
    number_axis(ax, "x", metric, bins=6 if numbers else 5)
    ax.set_xlabel(f"test {metric}" if numbers else f"{task}: test {metric}\n({better(metric)})")
    reference = floats(rows_of(scores, strategy="fixed"), "mean").ravel()
    if reference.size and shown[0] <= reference[0] <= shown[1]:
        ax.axvline(reference[0], color=INK, linewidth=0.9, dashes=(4, 3), zorder=1)
        ax.annotate("mean of fixed", (reference[0], 1), (0, 0), xycoords=("data", "axes fraction"),
                    textcoords="offset points", size=7.5, color=FAINT, ha="center", va="bottom")  # fmt: skip
    for y, name in enumerate(names):
        style = look[name]
        seeds = np.sort(floats(rows_of(runs, strategy=name), "score").ravel())
        seeds = seeds[np.isfinite(seeds)]
        # Multiples of the golden ratio: neighbours in score get rows far apart, the same at every drawing.
        rows = y + 0.46 * ((np.arange(seeds.size) * 0.618034 + 0.5) % 1 - 0.5) * (seeds.size > 1)
        for marker, there in (
            ("o", (seeds >= shown[0]) & (seeds <= shown[1])),
            ("<", seeds < shown[0]),
            (">", seeds > shown[1]),
        ):
            if there.any():
                ax.scatter(seeds[there].clip(*shown), rows[there], s=15, marker=marker, color=style.colour,
                           alpha=0.45, linewidths=0, clip_on=False)  # fmt: skip
        row = rows_of(scores, strategy=name)
        if row.empty:
            continue
        mean, low, high = floats(row, "mean", "low", "high")[0]
        if math.isfinite(low) and math.isfinite(high):
            ax.plot([low, high], [y, y], color=style.colour, linewidth=2.4, solid_capstyle="round")
        if shown[0] <= mean <= shown[1]:
            ax.plot([mean], [y], style.marker, color=style.colour, markersize=8, markeredgecolor="white")
        if numbers:
            about = floats(row, "difference", "difference_low", "difference_high")[0]
            lead, least, most = (number(v, metric, signed=True) for v in about)
            paired = "" if name == "fixed" else lead if least == "–" else f"{lead} [{least}, {most}]"
            beside(ax, y, number(mean, metric), paired)
    if numbers:
        unit = " (points)" if is_share(metric) else ""
        beside(ax, -0.6, "mean", f"vs fixed{unit}", header=True)


def beside(ax: Axes, y: float, left: str, right: str, *, header: bool = False) -> None:
    """Two columns of text on the right of the axes."""
    for text, offset, side in ((left, 46, "right"), (right, 58, "left")):
        ax.annotate(text, (1, y), (offset, 0), xycoords=ax.get_yaxis_transform(), textcoords="offset points",
                    ha=side, va="bottom" if header else "center", size=7.5 if header else 8,
                    color=FAINT if header else INK)  # fmt: skip


def accuracy(frames: Frames) -> Figure:
    """The main task's score of every strategy."""
    task = frames.tasks[0]
    title = f"{task}: test {metric_of(frames, task)} ({better(metric_of(frames, task))})"
    names = names_of(rows_of(frames.scores, task=task))
    if not names:
        return nothing(frames, title, "no finished run")
    figure = page(frames, title, height_of(names))
    forest(figure.subplots(), frames, task, names, numbers=True)
    return figure


def auxiliary(frames: Frames) -> Figure:
    """The auxiliary tasks' scores, side by side."""
    tasks = frames.tasks[1 : 1 + MAX_FACETS]
    names = names_of(frames.scores[frames.scores["task"].isin(tasks)])
    title = "Auxiliary tasks"
    if len(tasks) == 1:
        title = f"{tasks[0]}: test {metric_of(frames, tasks[0])} ({better(metric_of(frames, tasks[0]))})"
    if not names:
        return nothing(frames, title, "no finished run with an auxiliary task")
    figure = page(frames, title, height_of(names), note=not_drawn(frames.tasks[1 + MAX_FACETS :]))
    panels = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    for ax, task in zip(panels, tasks, strict=True):
        forest(ax, frames, task, names, numbers=len(tasks) == 1)
    return figure


def not_drawn(tasks: Sequence[str]) -> str:
    """A note for the tasks that found no place."""
    return f"Not drawn: {', '.join(tasks)}." if tasks else ""


def trade_off(frames: Frames) -> Figure:
    """The main score against the first auxiliary score."""
    if len(frames.tasks) < 2:
        return nothing(frames, "Trade-off", "there is one task only")
    tasks = (frames.tasks[1], frames.tasks[0])  # x, y
    look, metrics = styles(frames), [metric_of(frames, task) for task in tasks]
    x, y = (intervals_of(frames, task) for task in tasks)
    names = [n for n in names_of(frames.scores, baselines=False) if n in x and n in y]
    means = {n: (float(x[n][0]), float(y[n][0])) for n in names if math.isfinite(x[n][0] + y[n][0])}
    title = f"Trade-off between {tasks[1]} and {tasks[0]}"
    if not means:
        return nothing(frames, title, "no finished run with both tasks")
    seeds = frames.runs.pivot_table(index=["strategy", "seed"], columns="task", values="score")
    seeds = seeds.reindex(columns=list(tasks)).replace([np.inf, -np.inf], np.nan).dropna()
    spans: list[tuple[float, float]] = []
    for task, found in zip(tasks, (x, y), strict=True):
        drawn = [found[n] for n in (*means, f"single:{task}") if n in found]
        spans.append(limits(np.concatenate([*drawn, floats(seeds, task).ravel()])))
    (left, right), (low, high) = spans
    points = {n: at for n, at in means.items() if left <= at[0] <= right and low <= at[1] <= high}
    away = [
        f"{n} ({number(means[n][1], metrics[1])}, {number(means[n][0], metrics[0])})" for n in means if n not in points
    ]
    dots = {n: floats(seeds[seeds.index.get_level_values("strategy") == n], *tasks) for n in points}
    missed = sum(not (left <= at[0] <= right and low <= at[1] <= high) for cloud in dots.values() for at in cloud)
    away += [f"{missed} more seed{'s' * (missed > 1)}"] if missed else []

    direct = len(points) <= MAX_DIRECT_LABELS
    legend = [] if direct else [look[n].point(wrapped(n, 44, 1)) for n in points]
    figure = page(frames, title, 4.6, legend, note=f"Off the scale: {'; '.join(away)}." if away else "")
    ax = figure.subplots()
    ax.set(xlim=(left, right), ylim=(low, high))
    for which, task, metric in zip("xy", tasks, metrics, strict=True):
        number_axis(ax, which, metric, bins=7)
        ax.set(**{f"{which}label": f"test {metric} of {task} ({better(metric)})"})
    single_x, single_y = (found.get(f"single:{task}", [math.nan])[0] for task, found in zip(tasks, (x, y), strict=True))
    if left <= single_x <= right:
        colour = look[f"single:{tasks[0]}"].colour
        ax.axvline(single_x, color=colour, linewidth=1.2, dashes=(5, 3), zorder=1)
        ax.annotate(f"single:{tasks[0]}", (single_x, 1), (0, 3), xycoords=("data", "axes fraction"),
                    textcoords="offset points", size=7.5, color=FAINT, ha="center")  # fmt: skip
    if low <= single_y <= high:
        colour = look[f"single:{tasks[1]}"].colour
        ax.axhline(single_y, color=colour, linewidth=1.2, dashes=(5, 3), zorder=1)
        ax.annotate(f"single:{tasks[1]}", (1, single_y), (3, 0), xycoords=("axes fraction", "data"),
                    textcoords="offset points", size=7.5, color=FAINT, va="center")  # fmt: skip
    for name, at in points.items():
        style, width = look[name], 1.8 if direct else 0.8
        ax.scatter(*dots[name].T, s=13, color=style.colour, alpha=0.28, linewidths=0)
        ax.plot(x[name][1:], [at[1]] * 2, color=style.colour, linewidth=width)
        ax.plot([at[0]] * 2, y[name][1:], color=style.colour, linewidth=width)
        ax.plot(*at, style.marker, color=style.colour, markersize=9, markeredgecolor="white", zorder=3)
    if direct:
        figure.draw_without_rendering()
        label_points(ax, points, look)
    return figure


def label_points(ax: Axes, points: dict[str, tuple[float, float]], look: dict[str, Style]) -> None:
    """Write each name near its point, where it covers the least."""
    figure = ax.figure
    assert isinstance(figure, Figure)
    renderer = FigureCanvasAgg(figure).get_renderer()
    inner, pixels = ax.get_window_extent(renderer).padded(-4), figure.dpi / 72
    obstacles: list[Floats] = [ax.transData.transform(list(points.values())).repeat(8, axis=0)]
    obstacles += [ax.transData.transform(np.asarray(dots.get_offsets(), dtype=float)) for dots in ax.collections]
    for line in ax.lines:
        ends = line.get_transform().transform(np.asarray(line.get_xydata(), dtype=float))
        obstacles.append(np.linspace(ends[0], ends[-1], 80))
    covered = np.concatenate(obstacles)
    taken: list[Bbox] = []
    leader = {"arrowstyle": "-", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 5}
    for name, point in points.items():
        colour = sns.set_hls_values(look[name].colour, l=0.32)
        text = ax.annotate(wrapped(name), point, (0, 0), textcoords="offset points", size=8.5, ha="center", va="center",
                           color=colour, weight="bold", linespacing=1.0, in_layout=False)  # fmt: skip
        box = text.get_window_extent(renderer)
        best = (math.inf, 0.0, 0.0, box)
        for radius in (8, 14, 22, 34, 48, 64, 84):
            for angle in np.arange(16) * math.pi / 8:
                dx = math.cos(angle) * (radius * pixels + box.width / 2)
                dy = math.sin(angle) * (radius * pixels + box.height / 2)
                there = box.translated(dx, dy)
                hidden = int(there.padded(2).count_contains(covered))
                clashes = sum(there.padded(3).overlaps(other) for other in taken)
                outside = not (inner.contains(there.x0, there.y0) and inner.contains(there.x1, there.y1))
                best = min(best, (radius + 3 * hidden + 1000 * (clashes + outside), dx, dy, there), key=lambda b: b[0])
        _, dx, dy, there = best
        text.set_position((dx / pixels, dy / pixels))
        x, y = ax.transData.transform(point)
        edge = (min(max(x, there.x0), there.x1), min(max(y, there.y0 + 2), there.y1 - 2))
        if math.hypot(edge[0] - x, edge[1] - y) > 13 * pixels:
            ax.annotate("", point, (edge[0] / pixels, edge[1] / pixels), textcoords="figure points", in_layout=False,
                        arrowprops=leader | {"color": colour})  # fmt: skip
        taken.append(there)


def band_lines(ax: Axes, data: pd.DataFrame, column: str, look: dict[str, Style], by: str = "strategy") -> Floats:
    """One line per value of `by`: mean over seeds, and the band to the smallest and largest; returns the bands."""
    data = data.assign(epoch=data["epoch"].round(6)).groupby([by, "epoch"])[column].agg(["mean", "min", "max"])
    data = data.reset_index()
    names = [name for name in look if name in set(data[by])]
    few = data["epoch"].nunique() <= 8
    sns.lineplot(
        data=data, x="epoch", y="mean", hue=by, style=by, hue_order=names, style_order=names, estimator=None,
        palette={n: look[n].colour for n in names}, dashes={n: look[n].dashes for n in names},
        markers={n: look[n].marker for n in names} if few else False, linewidth=1.6, legend=False, ax=ax,
    )  # fmt: skip
    for name in names if len(names) <= MAX_BANDS else ():
        band = rows_of(data, **{by: name})
        if (band["max"] > band["min"]).any():
            ax.fill_between(band["epoch"], band["min"], band["max"], color=look[name].colour, alpha=0.12, linewidth=0)
    return floats(data, "min", "max").ravel()


def epoch_axis(ax: Axes, data: pd.DataFrame) -> None:
    """Whole epochs, from the start of training."""
    ax.set_xlim(0, 1.03 * float(data["epoch"].max()))
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def curves(frames: Frames) -> Figure:
    """Validation scores above, training losses below, one column per task."""
    look, title = styles(frames), "Learning curves"
    tasks = frames.tasks[:MAX_FACETS]
    data = frames.curves.replace([np.inf, -np.inf], np.nan)
    data = data[data["task"].isin(tasks) & data["strategy"].isin(look)]
    data = data.dropna(subset=["score", "loss"], how="all")
    names = [name for name in look if name in names_of(data)]
    if not names:
        return nothing(frames, title, "not recorded")
    legend = [look[n].line(wrapped(n, 44, 1)) for n in names]
    figure = page(frames, title, 5.4, legend, not_drawn(frames.tasks[MAX_FACETS:]))
    panels = figure.subplots(2, len(tasks), squeeze=False, sharex=True)
    for (above, below), task in zip(panels.T, tasks, strict=True):
        metric, own = metric_of(frames, task), data[data["task"] == task]
        validation = own[own["split"] == "validation"].dropna(subset="score")
        training = own[(own["split"] == "training") & (own["loss"] > 0)]
        if len(validation):
            bands = band_lines(above, validation, "score", look)
            above.set_ylim(*limits(bands, 12))
        if len(training):
            band_lines(below, training, "loss", look)
            log_axis(below, "y")
        number_axis(above, "y", metric)
        gap = "\n" if len(tasks) > 2 else " "
        above.set_title(f"{task}: validation {metric}{gap}({better(metric)})", size=9)
        below.set_title(f"{task}: training loss (log scale)", size=9)
        above.set(xlabel="", ylabel="")
        below.set(xlabel="epochs", ylabel="")
        epoch_axis(below, data)
    return figure


def weights(frames: Frames) -> Figure:
    """Effective weights during training, one panel per strategy, one kind of line per task."""
    look, title, tasks = styles(frames), "Effective weight of each task's loss", frames.tasks[: len(DASHES)]
    data = frames.curves.replace([np.inf, -np.inf], np.nan).dropna(subset="weight")
    data = data[(data["split"] == "training") & data["task"].isin(tasks)]
    names = [name for name in look if name in names_of(data, baselines=False)]
    if not names:
        return nothing(frames, title, "not recorded")
    lines = dict(zip(tasks, DASHES, strict=False))
    legend = [Style(INK, dashes=lines[task]).line(task) for task in tasks]
    columns = min(len(names), 3 if len(names) <= 9 else 4)
    rows = math.ceil(len(names) / columns)
    figure = page(
        frames,
        title,
        0.4 + rows * (2.3 if rows == 1 else 1.7 if rows < 4 else 1.3),
        legend,
        not_drawn(frames.tasks[len(DASHES) :]),
    )
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for ax, name in zip(panels, names, strict=False):
        ax.axhline(1, color="#c4c4c4", linewidth=0.9, zorder=0.5)
        kinds = {task: Style(look[name].colour, "o", dashes) for task, dashes in lines.items()}
        band_lines(ax, rows_of(data, strategy=name), "weight", kinds, by="task")
        ax.set_title(
            wrapped(name, 26 if columns == 4 else 34),
            size=7.5 if columns == 4 else 8.5,
            color=sns.set_hls_values(look[name].colour, l=0.32),
            weight="bold",
        )
        ax.set(xlabel="", ylabel="")
    for i, ax in enumerate(panels):
        if i >= len(names):
            ax.remove()
        elif i >= len(names) - columns:
            ax.set_xlabel("epochs", visible=True)
            ax.tick_params(labelbottom=True)
        if i % columns == 0:
            ax.set_ylabel("weight")
    smallest, largest = float(data["weight"].min()), float(data["weight"].max())
    if 0 < 20 * smallest < largest:
        log_axis(panels[0], "y")
    elif smallest >= 0:
        panels[0].set_ylim(0, 1.06 * max(largest, 1.0))
    epoch_axis(panels[0], data)
    return figure


def cost(frames: Frames) -> Figure:
    """Throughput, and time per step relative to fixed weights."""
    look, title, data = styles(frames), "Training speed and its cost", frames.costs
    names = names_of(data)
    if not names:
        return nothing(frames, title, "not measured")
    stacks = sorted(int(k) for k in data["replicas"].unique())
    fills = {k: i == len(stacks) - 1 and len(stacks) > 1 for i, k in enumerate(stacks)}
    legend = [
        Line2D([], [], color=INK, marker="o", markersize=7, linewidth=1.6, markerfacecolor=INK if fills[k] else "white",
               label="one replica" if k == 1 else f"whole stack of {k} replicas")
        for k in stacks
    ]  # fmt: skip
    figure = page(frames, title, height_of(names), legend)
    keys = [(str(n), int(k)) for n, k in zip(data["strategy"], data["replicas"], strict=True)]
    strategy_axis((panels := figure.subplots(1, 2, sharey=True))[0], names)
    for ax, value, prefix in zip(panels, ("samples_per_second", "ratio"), ("samples", "ratio"), strict=True):
        columns = value, f"{prefix}_low", f"{prefix}_high"
        for row, (name, replicas) in zip(floats(data, *columns), keys, strict=True):
            y = names.index(name) + (
                0.36 * (stacks.index(replicas) / (len(stacks) - 1) - 0.5) if len(stacks) > 1 else 0
            )
            style, (middle, low, high) = look[name], row
            if not math.isfinite(middle):
                continue
            if math.isfinite(low) and math.isfinite(high):
                ax.plot([low, high], [y, y], color=style.colour, linewidth=2, solid_capstyle="round")
            ax.plot(middle, y, style.marker, color=style.colour, markersize=6.5,
                    markerfacecolor=style.colour if fills[replicas] else "white")  # fmt: skip
            ax.text(1.01, y, f"{middle:.2f}×" if value == "ratio" else f"{middle:,.0f}", size=7, va="center",
                    color=FAINT, transform=ax.get_yaxis_transform())  # fmt: skip
    panels[0].set_xlabel("samples per second, log scale (higher is better)")
    panels[1].set_xlabel("time per step relative to fixed (lower is better)")
    panels[1].axvline(1, color=INK, linewidth=0.9, dashes=(4, 3), zorder=1)
    panels[1].spines["left"].set_visible(False)
    speeds = data["samples_per_second"].dropna()
    panels[0].set_xlim(speeds.min() / 1.3, speeds.max() * 1.15)
    log_axis(panels[0], "x")
    return figure


DRAWINGS: dict[str, Callable[[Frames], Figure]] = {
    "accuracy": accuracy,
    "auxiliary": auxiliary,
    "trade-off": trade_off,
    "curves": curves,
    "weights": weights,
    "cost": cost,
}
