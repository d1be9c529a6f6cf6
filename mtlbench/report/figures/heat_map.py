"""Heat map of strategies by setups: differences to fixed weights, coloured if significant."""

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
from mtlbench.report.figures.canvas import blank, nothing
from mtlbench.report.figures.inputs import Overview
from mtlbench.report.figures.marks import mark
from mtlbench.report.figures.style import FAINT, INK
from mtlbench.report.figures.texts import wrapped

WORSE_TO_BETTER = LinearSegmentedColormap.from_list(
    "worse to better", ["#b8520a", "#f2a65e", "#f6f6f6", "#7fb2dd", "#1c5d9f"]
)
PALEST = 0.22  # of the scale: a small significant difference must not look like no difference
OUTLIERS = 85  # percentile of the significant differences at the end of the scale; larger ones share its last colour
SIDE_BY_SIDE = 4  # largest number of setups with two panels side by side
COLUMNS = {False: 6, True: 2}  # smallest number of columns of a panel, by whether another is beside it
ROW = 0.205  # inches


@dataclass(frozen=True)
class _Cell:
    """A difference as text, whether it is significant, and its position on the colour scale, from -1 to 1 (best)."""

    text: str
    significant: bool
    merit: float
    tooltip: str


def heat_map(overview: Overview) -> Figure:
    """Differences to fixed weights in the main task, and in Delta-m where it is known, by strategy and setup."""
    title = "Difference to fixed weights on every setup"
    scores = overview.scores.astype({"difference": float})
    compared = [name != REFERENCE and role_of(str(name)) == "strategy" for name in scores["strategy"]]
    scores = scores[np.array(compared, dtype=bool)]
    signs = scores["better"].map({"higher": 1, "lower": -1})  # more `merit` is better
    scores = scores.assign(merit=scores["difference"] * signs, significant=scores["verdict"].isin(["better", "worse"]))
    main = scores["setup"].map(overview.main_tasks) == scores["task"]
    tables = {"main task": scores[main], "Delta-m": scores[scores["task"] == ALL_TASKS]}
    tables = {name: table for name, table in tables.items() if len(table)}
    if not tables:
        return nothing(overview.caption, title, "no finished run to compare")
    names, setups = _by_rank(next(iter(tables.values()))), list(overview.main_tasks)
    beside = len(setups) <= SIDE_BY_SIDE and len(tables) > 1
    heads = {setup: "\n".join(textwrap.wrap(setup, 13)) or setup for setup in setups}
    height = 0.4 + 0.13 * max(head.count("\n") + 1 for head in heads.values()) + ROW * len(names)
    note = "In percentage points; blue is better than fixed weights, orange worse, grey not significant after Holm's "
    note += "correction, – no run. Rows are in the order of their mean rank over the setups."
    others = tables.get("main task", scores.iloc[:0]).drop_duplicates(["metric", "better"])
    others = others.loc[~others["metric"].isin(SHARES), ["metric", "better"]].to_numpy()
    if len(others):
        units = sorted(f"{metric} ({way} is better)" for metric, way in others)
        note = f"{note} Not in percentage points: {', '.join(units)}."
    figure = blank(overview.caption, title, height * (1 if beside else len(tables)), note=note)
    grid = (1, len(tables)) if beside else (len(tables), 1)
    panels = figure.subplots(*grid, squeeze=False, sharey=True).ravel()
    for i, (ax, (name, table)) in enumerate(zip(panels, tables.items(), strict=True)):
        _panel(ax, table, names, heads, labels=i == 0 or not beside, columns=COLUMNS[beside])
        ax.set_title(name, size=9, weight="bold")
    return figure


def _by_rank(table: pd.DataFrame) -> list[str]:
    """Strategies by their mean rank in the setups where they have a score."""
    ranks = table["merit"].groupby(table["setup"]).rank(ascending=False)
    means = ranks.groupby(table["strategy"], sort=False).mean().sort_values(kind="stable", na_position="last")
    return [str(name) for name in means.index]


def _panel(
    ax: Axes, table: pd.DataFrame, names: list[str], heads: dict[str, str], *, labels: bool, columns: int
) -> None:
    cells = _cells(table)
    ax.set(xlim=(-0.5, max(len(heads), columns) - 0.5), ylim=(len(names) - 0.5, -0.5))
    ax.set_xticks(range(len(heads)), list(heads.values()), size=7.5, linespacing=1.0)
    ax.set_yticks(range(len(names)), [wrapped(name, 34, 1) for name in names], size=8)
    ax.tick_params(top=False, bottom=False, labeltop=True, labelbottom=False, labelleft=labels, pad=2)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    for y, name in enumerate(names):
        mark(ax.get_yticklabels()[y], name) if labels else None
        for x, setup in enumerate(heads):
            cell = cells.get((setup, name), _Cell("–", False, 0.0, f"{name} on {setup}: no score"))
            colour = to_hex(WORSE_TO_BETTER(0.5 + cell.merit / 2)) if cell.significant else "white"
            # Not `add_patch`, which updates the limits, and outside the layout: no cell leaves the axes.
            box = ax.add_artist(Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, facecolor=colour, linewidth=0))
            mark(box, name, cell.tooltip)
            dark = cell.significant and float(np.dot(to_rgb(colour), (0.3, 0.59, 0.11))) < 0.5
            text = ax.text(x, y, cell.text, size=7.5, ha="center", va="center_baseline",
                           color=FAINT if not cell.significant else "white" if dark else INK)  # fmt: skip
            mark(text, name, cell.tooltip)
            for artist in (box, text):
                artist.set_in_layout(False)


def _cells(table: pd.DataFrame) -> dict[tuple[str, str], _Cell]:
    """Cells by setup and strategy; shares have a common colour scale, any other setup has its own."""
    cells: dict[tuple[str, str], _Cell] = {}
    shares = table["metric"].isin(SHARES)
    scales = table["setup"].astype(str).where(~shares, "")
    for _, group in table.groupby(scales):
        sizes = group.loc[group["significant"] & np.isfinite(group["merit"]), "merit"].abs()
        reach = float(np.percentile(sizes, OUTLIERS)) if len(sizes) else 1.0
        for row in group.to_dict("records"):
            merit, difference = float(row["merit"]), float(row["difference"])
            setup, name, metric = (str(row[column]) for column in ("setup", "strategy", "metric"))
            if not math.isfinite(difference):
                continue
            size = PALEST + (1 - PALEST) * min(1.0, abs(merit) / reach if reach else 1.0)
            text, low, high = (_text(float(row[f"difference{end}"]), metric) for end in ("", "_low", "_high"))
            verdict = "" if row["significant"] else ", not significant"
            tooltip = f"{name} on {setup}: {text} [{low}, {high}]{verdict}"
            cells[setup, name] = _Cell(text, bool(row["significant"]), math.copysign(size, merit), tooltip)
    return cells


def _text(value: float, metric: str) -> str:
    if not math.isfinite(value):
        return "–"
    in_points = metric in SHARES
    digits = (".2f" if abs(value) < 0.1 else ".1f") if in_points else ".2g"
    return f"{value * (100 if in_points else 1):+{digits}}".replace("-", "−")
