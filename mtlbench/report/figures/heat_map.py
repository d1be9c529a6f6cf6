"""Strategies by setups: a table of differences to fixed weights, coloured where they are significant."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mtlbench.contracts.metrics import SHARES
from mtlbench.records.roles import ALL_TASKS, REFERENCE, role_of
from mtlbench.report.figures.axes import wrapped
from mtlbench.report.figures.canvas import nothing, page
from mtlbench.report.figures.inputs import Overview
from mtlbench.report.figures.marks import mark
from mtlbench.report.figures.style import FAINT, INK

WORSE_TO_BETTER = LinearSegmentedColormap.from_list(
    "worse to better", ["#b8520a", "#f2a65e", "#f6f6f6", "#7fb2dd", "#1c5d9f"]
)
PALEST = 0.22  # of the scale: even a small difference that is significant must not look like none
OUTLIERS = 85  # per cent of the significant differences within the scale; what lies beyond has its last colour
SIDE_BY_SIDE = 4  # setups up to which two panels stand side by side
COLUMNS = {False: 6, True: 2}  # setups for which a panel has room at least, by whether another is beside it
ROW = 0.205  # inches


@dataclass(frozen=True)
class _Cell:
    """A difference as text, whether it is significant, and how good it is, from -1 to 1 on the colour scale."""

    text: str
    told: bool
    merit: float
    tooltip: str


def heat_map(overview: Overview) -> Figure:
    """Differences to fixed weights in the main task, and in Delta-m where it is known, by strategy and setup."""
    title = "Difference to fixed weights on every setup"
    scores = overview.scores
    roles = np.array(
        [role_of(str(name)) == "strategy" and name != REFERENCE for name in scores["strategy"]], dtype=bool
    )
    main = scores["setup"].map(overview.main_tasks) == scores["task"]
    tables = {"main task": scores[roles & main], "Delta-m": scores[roles & (scores["task"] == ALL_TASKS)]}
    tables = {name: _with_merit(table) for name, table in tables.items() if len(table)}
    if not tables:
        return nothing(overview, title, "no finished run to compare")
    names, setups = _by_rank(next(iter(tables.values()))), list(overview.main_tasks)
    beside = len(setups) <= SIDE_BY_SIDE and len(tables) > 1
    heads = [textwrap.wrap(setup, 13) or [setup] for setup in setups]
    height = 0.4 + 0.13 * max(map(len, heads)) + ROW * len(names)
    note = "Points of per cent; blue is better than fixed weights, orange worse, grey not significant after Holm's "
    note += "correction, – no run. Rows are in the order of their mean rank over the setups."
    others = tables.get("main task", scores.iloc[:0]).drop_duplicates(["metric", "better"])
    kinds = [f"{row['metric']} ({row['better']} is better)" for row in others.to_dict("records")
             if row["metric"] not in SHARES]  # fmt: skip
    if kinds:
        note = f"{note} In units of their own: {', '.join(sorted(kinds))}."
    figure = page(overview, title, height * (1 if beside else len(tables)), note=note)
    grid = (1, len(tables)) if beside else (len(tables), 1)
    panels = figure.subplots(*grid, squeeze=False, sharey=True).ravel()
    for i, (ax, (name, table)) in enumerate(zip(panels, tables.items(), strict=True)):
        _panel(
            ax,
            table,
            names,
            ["\n".join(head) for head in heads],
            setups,
            labels=i == 0 or not beside,
            room=COLUMNS[beside],
        )
        ax.set_title(name, size=9, weight="bold")
    return figure


def _with_merit(table: pd.DataFrame) -> pd.DataFrame:
    """With `merit`, the difference so that more is better, and `told`, whether it is significant."""
    signs = [1 if way == "higher" else -1 for way in table["better"]]
    merit = table["difference"].astype(float) * signs
    return table.assign(merit=merit, told=table["verdict"].isin(["better", "worse"]))


def _by_rank(table: pd.DataFrame) -> list[str]:
    """Strategies by their mean rank in the setups where they have a score."""
    ranks = table["merit"].groupby(table["setup"]).rank(ascending=False)
    means = ranks.groupby(table["strategy"], sort=False).mean().sort_values(kind="stable", na_position="last")
    return [str(name) for name in means.index]


def _panel(
    ax: Axes, table: pd.DataFrame, names: list[str], heads: list[str], setups: list[str], *, labels: bool, room: int
) -> None:
    cells = _cells(table)
    ax.set(xlim=(-0.5, max(len(setups), room) - 0.5), ylim=(len(names) - 0.5, -0.5))
    ax.set_xticks(range(len(setups)), heads, size=7.5, linespacing=1.0)
    ax.set_yticks(range(len(names)), [wrapped(name, 34, 1) for name in names], size=8)
    ax.tick_params(top=False, bottom=False, labeltop=True, labelbottom=False, labelleft=labels, pad=2)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    for y, name in enumerate(names):
        mark(ax.get_yticklabels()[y], name) if labels else None
        for x, setup in enumerate(setups):
            cell = cells.get((setup, name), _Cell("–", told=False, merit=0.0, tooltip=f"{name} on {setup}: no score"))
            colour = to_hex(WORSE_TO_BETTER(0.5 + cell.merit / 2)) if cell.told else "white"
            box = Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, facecolor=colour, linewidth=0)
            mark(ax.add_patch(box), name, cell.tooltip)
            dark = cell.told and float(np.dot(to_rgb(colour), (0.3, 0.59, 0.11))) < 0.5
            text = ax.text(x, y, cell.text, size=7.5, ha="center", va="center_baseline",
                           color=FAINT if not cell.told else "white" if dark else INK)  # fmt: skip
            mark(text, name, cell.tooltip)


def _cells(table: pd.DataFrame) -> dict[tuple[str, str], _Cell]:
    """By setup and strategy; shares have one colour scale in common, every other setup one of its own."""
    cells: dict[tuple[str, str], _Cell] = {}
    shares = table["metric"].isin(SHARES)
    scales = table["setup"].astype(str).where(~shares, "")
    for _, group in table.groupby(scales):
        sizes = group.loc[group["told"] & np.isfinite(group["merit"]), "merit"].abs()
        reach = float(np.percentile(sizes, OUTLIERS)) if len(sizes) else 1.0
        for row in group.to_dict("records"):
            merit, difference = float(row["merit"]), float(row["difference"])
            setup, name, metric = (str(row[column]) for column in ("setup", "strategy", "metric"))
            if not math.isfinite(difference):
                continue
            size = PALEST + (1 - PALEST) * min(1.0, abs(merit) / reach if reach else 1.0)
            ends = [_text(float(row[end]), metric) for end in ("difference_low", "difference_high")]
            text = _text(difference, metric)
            verdict = "" if row["told"] else ", not significant"
            tooltip = f"{name} on {setup}: {text} [{ends[0]}, {ends[1]}]{verdict}"
            cells[setup, name] = _Cell(text, bool(row["told"]), math.copysign(size, merit), tooltip)
    return cells


def _text(value: float, metric: str) -> str:
    if not math.isfinite(value):
        return "–"
    in_points = metric in SHARES
    digits = (".2f" if abs(value) < 0.1 else ".1f") if in_points else ".2g"
    return f"{value * (100 if in_points else 1):+{digits}}".replace("-", "−")
