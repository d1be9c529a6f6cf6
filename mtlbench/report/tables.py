"""The tables of a report: every number as text, with its interval and the verdict on its comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import pandas as pd

from mtlbench.contracts.metrics import DELTA_M, Metric
from mtlbench.records.records import TaskInfo
from mtlbench.records.roles import ALL_TASKS, REFERENCE, TUNED, role_of

NOTHING = "–"
MINUS = f"minus {REFERENCE}"
MOST_TASKS = 3
"""With more tasks, a table shows the main task and Delta-m only; `summary.csv` has them all."""


@dataclass(frozen=True)
class Column:
    """A column of a table, after that of the labels; adjacent columns with the same `group` share it as a heading.

    `about` explains it, `higher_is_better` decides which end comes first when it is sorted, and `page_only` columns are
    left out of terminal and README, which have less room.
    """

    name: str
    group: str = ""
    about: str = ""
    higher_is_better: bool | None = None
    page_only: bool = False

    @property
    def title(self) -> str:
        """The heading on one line."""
        return f"{self.group} {self.name}".strip()


@dataclass(frozen=True)
class Cell:
    """A number as text, its interval, the value to sort by (cells without one come last), and its verdict."""

    value: str
    interval: str = ""
    key: float | None = None
    verdict: str = ""

    @property
    def significant(self) -> bool:
        """True for a significant difference."""
        return self.verdict in ("better", "worse")


@dataclass(frozen=True)
class Row:
    """The row of a label: a cell per column, or no cells and the problem of its run."""

    label: str
    cells: tuple[Cell, ...]
    problem: str = ""


@dataclass(frozen=True)
class Table:
    """Columns and rows in their initial order; `note` explains the units of metrics that are not shares."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str = ""

    @property
    def verdicts(self) -> bool:
        """True if a cell has a verdict."""
        return any(cell.verdict for row in self.rows for cell in row.cells)

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Each group with the number of adjacent columns that it spans; empty if no column has a group."""
        spans = [(group, len(list(columns))) for group, columns in groupby(self.columns, lambda column: column.group)]
        return spans if any(name for name, _ in spans) else []

    def brief(self) -> Table:
        """The table of terminal and README: without the fixed-weight front and the columns for the page only."""
        kept = [i for i, column in enumerate(self.columns) if not column.page_only]
        rows = [
            Row(row.label, tuple(row.cells[i] for i in kept if row.cells), row.problem)
            for row in self.rows
            if role_of(row.label) != "front"
        ]
        return Table(tuple(self.columns[i] for i in kept), tuple(rows), self.note)


def lay_out(summary: pd.DataFrame, tasks: Sequence[TaskInfo]) -> Table:
    """The runs of one setup: scores, differences and speeds, with tuned strategies below the untuned ones.

    `summary` is `frames.summary_frame` of the setup; `tasks` are its tasks, main task first.
    """
    main = tasks[0]
    metrics = {task: _metric(summary, task) for task in (tasks if len(tasks) <= MOST_TASKS else [main])}
    columns: list[Column] = []
    for task, metric in metrics.items():
        unit, points = ("%", "points") if metric.is_share else ("", "")
        score = f"test {task.metric}: mean over seeds with its 95% interval"
        difference = f"paired by seed, to {REFERENCE} equal weights; for tuned strategies, to tuned {REFERENCE} weights"
        columns += [
            Column(f"{task.metric} {unit}".strip(), task.name, score, metric.higher_is_better),
            Column(f"{MINUS} {points}".strip(), task.name, difference, metric.higher_is_better),
        ]
        if task == main:
            columns += [
                Column("p, Holm", task.name, "sign-flip test of the difference, after Holm's correction", False),
                Column("gained", task.name, "share of seeds with a better score", True, page_only=True),
                Column("detectable", task.name, "smallest difference found with 80% power", page_only=True),
            ]
    columns += [
        Column("Delta-m %", ALL_TASKS, "mean relative change against each task trained alone", True),
        Column("samples/s", "speed", "training steps only, whole stack", True),
        Column("cost x fixed", "speed", "time of a training step relative to fixed weights", False),
    ]
    rows: list[Row] = []
    for row in _tuned_below_untuned(summary).to_dict("records"):
        if row["problem"]:
            rows.append(Row(str(row["strategy"]), (), str(row["problem"])))
            continue
        cells: list[Cell] = []
        for task, metric in metrics.items():
            cells.append(_plain(row, task.column, partial(metric.score, unit=False)))
            cells.append(_difference(row, metric, f"{task.column}_", interval=True))
            if task == main:
                cells.append(_p(row, task.column))
                cells.append(_plain(row, f"{task.column}_gained", "{:.0%}".format))
                cells.append(_detectable(row, task.column, metric))
        delta_m = partial(Metric(DELTA_M, "higher").score, unit=False)
        cells.append(_plain(row, DELTA_M.replace("-", "_"), delta_m))
        cells.append(_plain(row, "samples_per_second", "{:,.0f}".format))
        cells.append(_plain(row, "cost_ratio", "{:.2f}".format))
        rows.append(Row(str(row["strategy"]), tuple(cells)))
    units = dict.fromkeys(f"{metric.name}: {metric.direction}" for metric in metrics.values() if not metric.is_share)
    return Table(tuple(columns), tuple(rows), "; ".join(units))


def over_setups(scores: pd.DataFrame, main_tasks: dict[str, str]) -> Table:
    """Differences to fixed weights in the score of the main task, strategies by setups."""
    main = scores[scores["task"] == scores["setup"].map(main_tasks)]
    names = [name for name in dict.fromkeys(main["strategy"]) if role_of(name) == "strategy" and name != REFERENCE]
    by_key = {(row["strategy"], row["setup"]): row for row in main.to_dict("records")}
    metrics = {str(row["setup"]): Metric.of(row) for row in by_key.values()}
    units = (f"{name} in {metric.name} ({metric.direction})" for name, metric in metrics.items() if not metric.is_share)

    def cell(name: str, setup: str) -> Cell:
        return _difference(by_key[name, setup], metrics[setup]) if (name, setup) in by_key else Cell(NOTHING)

    rows = [Row(name, tuple(cell(name, setup) for setup in main_tasks)) for name in names]
    return Table(tuple(map(Column, main_tasks)), tuple(rows), ", ".join(units))


def _tuned_below_untuned(summary: pd.DataFrame) -> pd.DataFrame:
    order = [str(name) for name in summary["strategy"]]

    def rank(name: str) -> tuple[int, bool]:
        untuned = name.removeprefix(f"{TUNED}:")
        return order.index(untuned if untuned in order else name), untuned != name

    return summary.set_index("strategy", drop=False).loc[sorted(order, key=rank)]


def _metric(summary: pd.DataFrame, task: TaskInfo) -> Metric:
    """The metric of a task, at the scale of fixed weights."""
    fixed = summary[summary["strategy"] == REFERENCE].to_dict("records")
    return task.measured(_number(fixed[0], task.column) if fixed else math.nan)


def _difference(row: dict[Any, Any], metric: Metric, prefix: str = "", *, interval: bool = False) -> Cell:
    value, low, high = (_number(row, f"{prefix}difference{suffix}") for suffix in ("", "_low", "_high"))
    if row["strategy"] == REFERENCE or math.isnan(value):
        return Cell(NOTHING)
    text = partial(metric.difference, unit=False)
    bounds = f"{text(low)} {text(high)}" if interval and not math.isnan(low) else ""
    return Cell(text(value), bounds, key=value, verdict=str(row[f"{prefix}verdict"]))


def _p(row: dict[Any, Any], name: str) -> Cell:
    if row.get(f"{name}_verdict") == "too few seeds":
        return Cell("too few seeds")
    return _plain(row, f"{name}_p_holm", lambda p: "< 0.001" if p < 0.001 else f"{p:.3f}")


def _detectable(row: dict[Any, Any], name: str, metric: Metric) -> Cell:
    if math.isinf(_number(row, f"{name}_detectable")):
        return Cell("none")
    return _plain(row, f"{name}_detectable", lambda size: metric.difference(size, unit=False).lstrip("+"))


def _plain(row: dict[Any, Any], name: str, text: Callable[[float], str]) -> Cell:
    """A number with its interval, if the row has one."""
    value, low, high = (_number(row, name + suffix) for suffix in ("", "_low", "_high"))
    if math.isnan(value):
        return Cell(NOTHING)
    return Cell(text(value), "" if math.isnan(low + high) else f"{text(low)} {text(high)}", key=value)


def _number(row: dict[Any, Any], name: str) -> float:
    value = row.get(name)
    return math.nan if value is None or pd.isna(value) else float(value)
