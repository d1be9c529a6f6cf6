"""Makes everything derived of a bench from its stored runs: tables, plots, the bench's README."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table as RichTable

from mtlbench import tables
from mtlbench.errors import UserError
from mtlbench.records import REFERENCE, BenchRecord, RunRecord
from mtlbench.stats import ENOUGH_SEEDS
from mtlbench.store import Store

NOTHING = "–"
MINUS, FAILED = f"minus {REFERENCE}", "failed: "
LONG_TABLE = 10  # rows
WIDE = Console(width=1_000)


@dataclass(frozen=True)
class Cell:
    """A number as shown, and its interval where it has one."""

    value: str
    interval: str = ""


@dataclass(frozen=True)
class Table:
    """The table of a bench as shown on the terminal and in its README."""

    headers: list[str]
    rows: list[list[Cell]]


@dataclass(frozen=True)
class Report:
    """What was made: the table, lines worth saying, and the files."""

    table: Table
    notes: list[str]
    readme: Path
    plots: list[Path]


def make(store: Store) -> Report:
    """Write `runs.csv`, `curves.csv`, `summary.csv`, `plots/` and `README.md` of a bench.

    Raises:
        UserError: there is no such bench, it has no runs yet, a stored file cannot be read, or its folder
            cannot be written.
    """
    bench = store.bench()
    if bench is None:
        raise UserError(f"there is no bench in {store.folder}: run `mtlbench bench --name {store.folder.name}`")
    runs = store.runs()
    if not runs:
        raise UserError(f"the bench in {store.folder} has no runs yet: run it again")
    store.prepare()
    from mtlbench import plots

    order = [run.spec.label for run in runs]
    costs = store.costs()
    frames = plots.Frames(
        runs=tables.runs_frame(runs),
        curves=tables.curves_frame(runs),
        scores=tables.scores_frame(tables.runs_frame(runs)),
        costs=tables.costs_frame(costs, order),
        tasks=tuple(task.name for task in runs[0].tasks),
        caption=_caption(bench, runs),
    )
    store.write("runs.csv", frames.runs.to_csv(index=False, float_format="%.7g"))
    store.write("curves.csv", tables.curves_over_seeds(frames.curves).to_csv(index=False, float_format="%.4g"))
    summary = tables.summary_frame(runs, frames.scores, frames.costs)
    store.write("summary.csv", summary.to_csv(index=False, float_format="%.7g"))
    pictures = plots.save_all(frames, store.folder / "plots") if len(frames.runs) else []
    table = lay_out(summary, runs)
    notes = [f"{run.spec.label} failed: {run.error}" for run in runs if run.error] + tables.identical_runs(runs)
    if len(bench.settings.seeds) < ENOUGH_SEEDS:
        notes.append(f"{len(bench.settings.seeds)} seeds are too few for a 95% interval; {ENOUGH_SEEDS} are needed")
    environment = Environment(
        loader=PackageLoader("mtlbench"),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = _markdown
    readme = environment.get_template("bench.md.j2").render(
        bench=bench,
        environment=bench.environment,
        conditions=_conditions(bench),
        table=table,
        notes=notes,
        plots=plots.PLOTS if pictures else {},
        threads=costs.threads if costs else 1,
        rounds=max((len(cost.ratios) for cost in costs.costs), default=0) if costs else 0,
    )
    return Report(table, notes, store.write("README.md", readme), pictures)


def lay_out(summary: pd.DataFrame, runs: Sequence[RunRecord]) -> Table:
    """The summary as it is shown: per cent, percentage points, samples/s, factors."""
    tasks = runs[0].tasks
    headers = ["strategy"]
    for task in tasks:
        unit, points = ("%", "points") if task.is_share else ("", "")
        headers += [f"{task.name} {task.metric} {unit}".strip(), f"{MINUS} {points}".strip()]
    headers += ["samples/s", "cost x fixed"]
    rows: list[list[Cell]] = []
    for row in summary.to_dict("records"):
        if row["error"]:
            failed = Cell(f"{FAILED}{row['error']}")
            rows.append([Cell(str(row["strategy"])), failed, *[Cell(NOTHING)] * (len(headers) - 2)])
            continue
        cells = [Cell(str(row["strategy"]))]
        for task in tasks:
            name = task.column
            cells.append(_estimate(row, name, "z.2f" if task.is_share else ".4g", factor=100 if task.is_share else 1))
            difference = _estimate(row, f"{name}_difference", "+z.2f", factor=100 if task.is_share else 1)
            cells.append(Cell(NOTHING) if row["strategy"] == REFERENCE else difference)
        cells.append(_estimate(row, "samples_per_second", ",.0f"))
        cost = _estimate(row, "cost_ratio", ".2f")
        cells.append(Cell(cost.value) if row["strategy"] == REFERENCE else cost)
        rows.append(cells)
    return Table(headers, rows)


def show(report: Report, console: Console) -> None:
    """Print the table, what is worth saying, and where the files are.

    A long table has one line per strategy, with as many of the intervals beside the numbers as the console is wide.
    """
    if len(report.table.rows) > LONG_TABLE:
        table, which = _one_line_each(report.table, console.width)
    else:
        table, which = _two_lines_each(report.table), "below a mean or a difference its 95% interval over seeds"
        which += ", below a cost that over rounds"
    console.print(table)
    console.print(which, style="dim", highlight=False)
    for note in report.notes:
        console.print(escape(note), style="yellow", highlight=False)
    console.print(f"report  {report.readme}", highlight=False, markup=False, soft_wrap=True)
    if report.plots:
        console.print(f"plots   {report.plots[0].parent}", highlight=False, markup=False, soft_wrap=True)


def _two_lines_each(table: Table) -> RichTable:
    shown = _empty(table)
    for row in table.rows:
        cells = (
            escape(cell.value) + (f"\n[dim]{escape(cell.interval)}[/dim]" if cell.interval else "") for cell in row
        )
        shown.add_row(*cells)
    return shown


def _one_line_each(table: Table, width: int) -> tuple[RichTable, str]:
    """The table and a sentence on its intervals: those of the differences first, then the cost's, then the scores'."""
    differences = {i for i, header in enumerate(table.headers) if header.startswith(MINUS)}
    cost, scores = {len(table.headers) - 1}, set(range(1, len(table.headers) - 2)) - differences
    for with_interval, gap, which in (
        (differences | cost | scores, 1, "beside a number its 95% interval over seeds, beside a cost that over rounds"),
        (differences | cost, 1, "beside a difference its 95% interval over seeds, beside a cost that over rounds"),
        (differences, 1, "beside a difference its 95% interval over seeds"),
        (differences, 0, "beside a difference its 95% interval over seeds"),
    ):
        shown = _beside(table, with_interval, gap)
        if Measurement.get(WIDE, WIDE.options, shown).maximum <= width:
            return shown, which
    return _beside(table, set(), 1), "95% intervals are in the report"


def _beside(table: Table, with_interval: set[int], gap: int) -> RichTable:
    """One line per strategy, in these columns with the interval beside the number."""
    shown = _empty(table)
    shown.padding = (0, gap, 0, 0)
    most = [max(len(row[i].interval) for row in table.rows) for i in range(len(table.headers))]
    for row in table.rows:
        cells = [escape(_outcome(cell)) for cell in row]
        for i in with_interval:
            if most[i]:
                cells[i] += f"[dim] {row[i].interval:>{most[i]}}[/dim]"
        shown.add_row(*cells)
    return shown


def _outcome(cell: Cell) -> str:
    """What stands in a line: an error has its own, below the table."""
    return "failed" if cell.value.startswith(FAILED) else cell.value


def _empty(table: Table) -> RichTable:
    shown = RichTable(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, collapse_padding=True)
    for position, header in enumerate(table.headers):
        shown.add_column(header.replace(" ", "\n"), justify="left" if position == 0 else "right", overflow="fold")
    return shown


def _estimate(row: dict[Any, Any], name: str, pattern: str, factor: float = 1) -> Cell:
    value, low, high = (row.get(name + suffix) for suffix in ("", "_low", "_high"))
    if value is None or pd.isna(value):
        return Cell(NOTHING)
    shown = format(value * factor, pattern)
    if low is None or high is None or pd.isna(low) or pd.isna(high):
        return Cell(shown)
    return Cell(shown, f"{format(low * factor, pattern)} {format(high * factor, pattern)}")


def _conditions(bench: BenchRecord) -> str:
    asked = bench.settings
    return (
        f"Setup {asked.setup}, {len(asked.seeds)} seed{'s' if len(asked.seeds) > 1 else ''}, "
        f"{asked.epochs} epoch{'s' if asked.epochs > 1 else ''}, batch {asked.batch_size}, "
        f"Adam with learning rate {asked.lr:g}, {asked.device}"
    )


def _caption(bench: BenchRecord, runs: Sequence[RunRecord]) -> str:
    failed = [run.spec.label for run in runs if run.error]
    return f"{_conditions(bench)}." + (f" Failed: {', '.join(failed)}." if failed else "")


def _markdown(text: str) -> str:
    """Text that may come from a plugin, made harmless in a Markdown table."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")
