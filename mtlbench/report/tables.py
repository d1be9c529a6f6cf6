"""The tables of a report as they are shown: every number as text, with its interval and what its comparison shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pandas as pd

from mtlbench.contracts.metrics import DELTA_M, Metric
from mtlbench.records.records import TaskInfo
from mtlbench.records.roles import ALL_TASKS, REFERENCE, TUNED, role_of

NOTHING = "–"
MINUS = f"minus {REFERENCE}"
AGAINST = f"to {REFERENCE} equal weights, of a tuned strategy to tuned {REFERENCE} weights"
MOST_TASKS = 3
"""With more, a table shows the main task and Delta-m; the others are in `summary.csv`."""


@dataclass(frozen=True)
class Column:
    """A column of a table behind that of the labels.

    `group` stands above columns that belong together; `about` explains the column; `page_only` columns are shown where
    there is room for them, in the page. Of a column that knows `higher_is_better`, sorting puts the best first.
    """

    name: str
    group: str = ""
    about: str = ""
    higher_is_better: bool | None = None
    page_only: bool = False

    @property
    def title(self) -> str:
        """The heading where there is one line for it."""
        return f"{self.group} {self.name}".strip()


@dataclass(frozen=True)
class Cell:
    """A number as shown, the interval beside it, what it is sorted by, and the verdict on a difference.

    A cell without a key stands last, however the table is sorted. `about` is added to what the verdict says.
    """

    value: str
    interval: str = ""
    key: float | None = None
    verdict: str = ""
    about: str = ""


@dataclass(frozen=True)
class Row:
    """The row of a label: a cell per column, or the problem that it has none for."""

    label: str
    cells: tuple[Cell, ...]
    problem: str = ""


@dataclass(frozen=True)
class Table:
    """Columns and rows, in the order in which they stand before anything is sorted; `note` is what they need said."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str = ""

    @property
    def verdicts(self) -> bool:
        """Whether a cell has a verdict, whose signs then have to be explained."""
        return any(cell.verdict for row in self.rows for cell in row.cells)

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Each group with the number of columns next to each other that it spans; empty if no column has one."""
        spans = [(group, len(list(columns))) for group, columns in groupby(self.columns, lambda column: column.group)]
        return spans if any(name for name, _ in spans) else []

    def brief(self) -> Table:
        """What the terminal and the README show: no front, and no column for the page only."""
        kept = [i for i, column in enumerate(self.columns) if not column.page_only]
        rows = [
            Row(row.label, tuple(row.cells[i] for i in kept if row.cells), row.problem)
            for row in self.rows
            if role_of(row.label) != "front"
        ]
        return Table(tuple(self.columns[i] for i in kept), tuple(rows), self.note)


def lay_out(summary: pd.DataFrame, tasks: Sequence[TaskInfo]) -> Table:
    """The runs of one setup: scores, differences, speeds; tuned strategies below their own.

    Args:
        summary: `tables.summary_frame` of the setup.
        tasks: the setup's, the main one first.
    """
    shown = list(tasks) if len(tasks) <= MOST_TASKS else list(tasks[:1])
    main, metrics = tasks[0], {task.name: _measured(summary, task) for task in shown}
    columns: list[Column] = []
    for task in shown:
        unit, points = ("%", "points") if metrics[task.name].is_share else ("", "")
        better, about = (
            metrics[task.name].higher_is_better,
            f"test {task.metric}: mean over seeds with its 95% interval",
        )
        columns += [
            Column(f"{task.metric} {unit}".strip(), task.name, about, better),
            Column(f"{MINUS} {points}".strip(), task.name, f"paired by seed, {AGAINST}", better),
        ]
        if task == main:
            columns += [
                Column(
                    "p, Holm", task.name, "of a sign-flip test of the difference, corrected", higher_is_better=False
                ),
                Column("gained", task.name, "share of the seeds with a better score", True, page_only=True),
                Column("detectable", task.name, "smallest difference found with probability 80%", page_only=True),
            ]
    columns += [
        Column("Delta-m %", ALL_TASKS, "mean relative change against each task trained alone", True),
        Column("samples/s", "speed", "of training steps, the whole stack, one thread", True),
        Column("cost x fixed", "speed", "time of a training step relative to fixed weights", False),
    ]
    rows: list[Row] = []
    for row in _tuned_below_their_own(summary).to_dict("records"):
        cells: list[Cell] = []
        for task in () if row["problem"] else shown:
            metric = metrics[task.name]
            cells += [_score(row, task.column, metric), _difference(row, task.column, metric)]
            if task == main:
                cells += [_p(row, task.column), _gained(row, task.column), _detectable(row, task.column, metric)]
        if not row["problem"]:
            cells += [_score(row, DELTA_M.replace("-", "_"), Metric(DELTA_M, "higher"))]
            cells += [_plain(row, "samples_per_second", "{:,.0f}".format), _plain(row, "cost_ratio", "{:.2f}".format)]
        rows.append(Row(str(row["strategy"]), tuple(cells), str(row["problem"])))
    said = dict.fromkeys(f"{metric.name}: {metric.direction}" for metric in metrics.values() if not metric.is_share)
    return Table(tuple(columns), tuple(rows), "; ".join(said))


def over_setups(scores: pd.DataFrame, main_tasks: dict[str, str]) -> Table:
    """Differences to fixed weights in the main task's score, strategies by setups."""
    main = scores[scores["task"] == scores["setup"].map(main_tasks)]
    names = [str(name) for name in dict.fromkeys(main["strategy"]) if role_of(str(name)) == "strategy"]
    found = {(row["strategy"], row["setup"]): row for row in main.to_dict("records")}
    measured = {str(row["setup"]): Metric.of(row) for row in found.values()}
    said = (f"{name} in {own.name} ({own.direction})" for name, own in measured.items() if not own.is_share)
    return Table(
        tuple(Column(setup) for setup in main_tasks),
        tuple(
            Row(name, tuple(_of_setup(found.get((name, setup))) for setup in main_tasks))
            for name in names
            if name != REFERENCE
        ),
        ", ".join(said),
    )


def _tuned_below_their_own(summary: pd.DataFrame) -> pd.DataFrame:
    order = [str(name) for name in summary["strategy"]]
    place = {name: position for position, name in enumerate(order)}

    def rank(name: str) -> tuple[float, int]:
        own = name.removeprefix(f"{TUNED}:")
        return (place.get(own, place[name]), int(own != name))

    return summary.set_index("strategy", drop=False).loc[sorted(order, key=rank)]


def _measured(summary: pd.DataFrame, task: TaskInfo) -> Metric:
    """A task's metric at the scale of fixed weights."""
    fixed = summary[summary["strategy"] == REFERENCE].to_dict("records")
    return task.measured(number(fixed[0], task.column) if fixed else math.nan)


def _score(row: dict[Any, Any], name: str, metric: Metric) -> Cell:
    return _plain(row, name, lambda value: metric.score(value, unit=False))


def _difference(row: dict[Any, Any], name: str, metric: Metric) -> Cell:
    value, low, high = (number(row, f"{name}_difference{suffix}") for suffix in ("", "_low", "_high"))
    if row["strategy"] == REFERENCE or math.isnan(value):
        return Cell(NOTHING)
    interval = "" if math.isnan(low) else " ".join(metric.difference(x, unit=False) for x in (low, high))
    shown = metric.difference(value, unit=False)
    return Cell(shown, interval, key=value, verdict=str(row[f"{name}_verdict"]))


def _p(row: dict[Any, Any], name: str) -> Cell:
    p = number(row, f"{name}_p_holm")
    if math.isnan(p):
        return Cell(NOTHING)
    if row[f"{name}_verdict"] == "too few seeds":
        return Cell("too few seeds")
    return Cell("< 0.001" if p < 0.001 else f"{p:.3f}", key=p)


def _gained(row: dict[Any, Any], name: str) -> Cell:
    share = number(row, f"{name}_gained")
    return Cell(NOTHING) if math.isnan(share) else Cell(f"{share:.0%}", key=share)


def _detectable(row: dict[Any, Any], name: str, metric: Metric) -> Cell:
    size = number(row, f"{name}_detectable")
    if math.isnan(size):
        return Cell(NOTHING)
    if math.isinf(size):
        return Cell("none")
    return Cell(metric.difference(size, unit=False).lstrip("+"), key=size)


def _plain(row: dict[Any, Any], name: str, text: Callable[[float], str]) -> Cell:
    value, low, high = (number(row, name + suffix) for suffix in ("", "_low", "_high"))
    if math.isnan(value):
        return Cell(NOTHING)
    shown = text(value)
    if math.isnan(low) or math.isnan(high):
        return Cell(shown, key=value)
    return Cell(shown, f"{text(low)} {text(high)}", key=value)


def _of_setup(row: dict[Any, Any] | None) -> Cell:
    value = math.nan if row is None else number(row, "difference")
    if row is None or math.isnan(value):
        return Cell(NOTHING)
    shown = Metric.of(row).difference(value, unit=False)
    return Cell(shown, key=value, verdict=str(row["verdict"]))


def number(row: dict[Any, Any], name: str) -> float:
    """A number of a frame's row, NaN where it has none."""
    value = row.get(name)
    return math.nan if value is None or pd.isna(value) else float(value)
