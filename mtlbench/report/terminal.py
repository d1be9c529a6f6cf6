"""A report on the terminal: the tables, the answer, and the paths of the files."""

from __future__ import annotations

import re

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table as RichTable

from mtlbench.report.model import Report
from mtlbench.report.tables import MINUS, Cell, Table

LONG_TABLE = 10  # rows
WIDE = Console(width=1_000)
BOLD = "bold: significant after Holm's correction"


def show(report: Report, console: Console) -> None:
    """Print the table of the main setup, that over setups, the answer, the notes, and the paths of the files.

    A long table has one line per strategy, and as many of the intervals as the console has room for.
    """
    table = report.setups[0].table.brief()
    if len(table.rows) > LONG_TABLE:
        shown, intervals = _one_line_each(table, console.width)
    else:
        shown = _two_lines_each(table)
        intervals = "below a score or difference: its 95% interval over seeds; below a cost: that over rounds"
    console.print(shown)
    _dim("; ".join(text for text in (table.note, intervals, BOLD) if text), console)
    if report.over_setups is not None:
        console.print(_beside(report.over_setups, set(), 2, break_at=" -"))
        units = ", ".join(text for text in ("percentage points", report.over_setups.note) if text)
        _dim(f"main task, difference to fixed in {units}; {BOLD}", console)
    for sentence in report.answer:
        console.print(escape(sentence), highlight=False)
    for note in report.notes:
        console.print(escape(note), style="yellow", highlight=False)
    files = {"report ": "report.html", "summary": "README.md", "plots  ": "plots"}
    for name, file in files.items():
        if (report.folder / file).exists():
            console.print(f"{name} {report.folder / file}", highlight=False, markup=False, soft_wrap=True)


def _dim(text: str, console: Console) -> None:
    console.print(escape(text), style="dim", highlight=False)


def _two_lines_each(table: Table) -> RichTable:
    shown = _empty(table)
    for row in table.rows:
        cells = [_value(cell) + f"\n[dim]{escape(cell.interval)}[/dim]" * bool(cell.interval) for cell in row.cells]
        shown.add_row(escape(row.label), *([row.problem.partition(":")[0]] if row.problem else cells))
    return shown


def _one_line_each(table: Table, width: int) -> tuple[RichTable, str]:
    """The table and a phrase on its intervals; differences have priority, then cost, then scores."""
    everywhere = set(range(len(table.columns)))
    differences = {i for i, column in enumerate(table.columns) if column.name.startswith(MINUS)}
    for with_interval, gap, intervals in (
        (everywhere, 1, "beside a number: its 95% interval over seeds, or over rounds for a cost"),
        (differences | {max(everywhere)}, 1, "beside a difference or cost: its 95% interval"),
        (differences, 1, "beside a difference: its 95% interval over seeds"),
        (differences, 0, "beside a difference: its 95% interval over seeds"),
    ):
        shown = _beside(table, with_interval, gap)
        if Measurement.get(WIDE, WIDE.options, shown).maximum <= width:
            return shown, intervals
    return _beside(table, set(), 0), "95% intervals are in the report"


def _beside(table: Table, with_interval: set[int], gap: int, break_at: str = " ") -> RichTable:
    """One line per strategy, with intervals beside the numbers of these columns; headings break after `break_at`."""
    shown = _empty(table, break_at)
    shown.padding = (0, gap, 0, 0)
    complete = [row for row in table.rows if not row.problem]
    widths = [max((len(row.cells[i].interval) for row in complete), default=0) for i in range(len(table.columns))]
    for row in table.rows:
        cells = [_value(cell) for cell in row.cells]
        for i in with_interval if cells else ():
            if widths[i]:
                cells[i] += f"[dim] {row.cells[i].interval:>{widths[i]}}[/dim]"
        shown.add_row(escape(row.label), *(cells or [row.problem.partition(":")[0]]))
    return shown


def _value(cell: Cell) -> str:
    """A number, in bold if it is a significant difference."""
    return f"[bold]{escape(cell.value)}[/bold]" if cell.significant else escape(cell.value)


def _empty(table: Table, break_at: str = " ") -> RichTable:
    shown = RichTable(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, collapse_padding=True)
    shown.add_column("strategy", overflow="fold")
    for column in table.columns:
        title = "\n".join(part.strip() for part in re.split(f"(?<=[{break_at}])", column.title))
        shown.add_column(title, justify="right", overflow="fold")
    return shown
