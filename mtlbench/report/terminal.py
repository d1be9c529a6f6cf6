"""A report on the terminal: the answer, the tables, and where the files are."""

from __future__ import annotations

import re

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table as RichTable

from mtlbench.report.make import BenchReport
from mtlbench.report.tables import MINUS, Cell, Row, Table

LONG_TABLE = 10  # rows
WIDE = Console(width=1_000)


def show(report: BenchReport, console: Console) -> None:
    """Print the table of the main setup, that over setups, the answer, what is worth saying, and where the files are.

    A long table has one line per strategy, with as many of the intervals beside the numbers as the console is wide.
    """
    table = report.table.brief()
    if len(table.rows) > LONG_TABLE:
        shown, which = _one_line_each(table, console.width)
    else:
        shown, which = _two_lines_each(table), "below a mean or a difference its 95% interval over seeds"
        which += ", below a cost that over rounds"
    console.print(shown)
    said = f"{table.note}; " if table.note else ""
    console.print(escape(f"{said}{which}; bold: shown after Holm's correction"), style="dim", highlight=False)
    if report.over_setups is not None:
        console.print(_beside(report.over_setups, set(), 2, break_at=" -"))
        unit = f"points, {report.over_setups.note}" if report.over_setups.note else "points"
        line = f"main task, minus fixed in {unit}; bold: shown after Holm's correction"
        console.print(escape(line), style="dim", highlight=False)
    for sentence in report.answer:
        console.print(escape(sentence), highlight=False)
    for note in report.notes:
        console.print(escape(note), style="yellow", highlight=False)
    for name, path in (("report ", report.page), ("summary", report.readme)):
        console.print(f"{name} {path}", highlight=False, markup=False, soft_wrap=True)
    if report.plots:
        console.print(f"plots   {report.plots[0].parent}", highlight=False, markup=False, soft_wrap=True)


def _two_lines_each(table: Table) -> RichTable:
    shown = _empty(table)
    for row in table.rows:
        cells = (
            _value(cell) + (f"\n[dim]{escape(cell.interval)}[/dim]" if cell.interval else "") for cell in row.cells
        )
        shown.add_row(escape(row.label), *([_kind(row)] if row.problem else cells))
    return shown


def _one_line_each(table: Table, width: int) -> tuple[RichTable, str]:
    """The table and a sentence on its intervals: those of the differences first, then the cost's, then the scores'."""
    everywhere = set(range(len(table.columns)))
    differences = {i for i, column in enumerate(table.columns) if column.name.startswith(MINUS)}
    for with_interval, gap, which in (
        (everywhere, 1, "beside a number its 95% interval over seeds, beside a cost that over rounds"),
        (differences | {max(everywhere)}, 1, "beside a difference and a cost its 95% interval"),
        (differences, 1, "beside a difference its 95% interval over seeds"),
        (differences, 0, "beside a difference its 95% interval over seeds"),
    ):
        shown = _beside(table, with_interval, gap)
        if Measurement.get(WIDE, WIDE.options, shown).maximum <= width:
            return shown, which
    return _beside(table, set(), 0), "95% intervals are in the report"


def _beside(table: Table, with_interval: set[int], gap: int, break_at: str = " ") -> RichTable:
    """One line per strategy, in these columns with the interval beside the number; headings break after `break_at`."""
    shown = _empty(table, break_at)
    shown.padding = (0, gap, 0, 0)
    there = [row for row in table.rows if not row.problem]
    most = [max((len(row.cells[i].interval) for row in there), default=0) for i in range(len(table.columns))]
    for row in table.rows:
        cells = [_value(cell) for cell in row.cells]
        for i in with_interval if cells else ():
            if most[i]:
                cells[i] += f"[dim] {row.cells[i].interval:>{most[i]}}[/dim]"
        shown.add_row(escape(row.label), *(cells or [_kind(row)]))
    return shown


def _kind(row: Row) -> str:
    """In a word, why a row has no numbers."""
    return row.problem.partition(":")[0]


def _value(cell: Cell) -> str:
    """A number, bold if it is a difference that is shown."""
    return f"[bold]{escape(cell.value)}[/bold]" if cell.verdict in ("better", "worse") else escape(cell.value)


def _empty(table: Table, break_at: str = " ") -> RichTable:
    shown = RichTable(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, collapse_padding=True)
    shown.add_column("strategy", overflow="fold")
    for column in table.columns:
        title = "\n".join(part.strip() for part in re.split(f"(?<=[{break_at}])", column.title))
        shown.add_column(title, justify="right", overflow="fold")
    return shown
