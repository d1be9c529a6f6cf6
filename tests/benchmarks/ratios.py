"""Ratios between loops that take turns, and the one table that they are shown in."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

SLOWER = 1.05  # times the stored cost, beyond what rounds of a quiet machine differ by


@dataclass(frozen=True)
class Section:
    """Rows that say the same kind of ratio: a gain is samples/s over another loop's, a cost is time over another's."""

    title: str
    is_gain: bool


LIMITS = Section("samples/s over the limit, one thread", is_gain=True)
WAYS = Section("samples/s of fixed over other ways to multiply, one thread", is_gain=True)
PEERS = Section("samples/s over other loops", is_gain=True)
TORCHJD = Section("samples/s over TorchJD's autojac, one thread", is_gain=True)
BALANCER = Section("samples/s of Balancer, one model, over TorchJD's autojac, one thread", is_gain=True)
STACKED = Section("step time over fixed, K = 10, one thread", is_gain=False)
SINGLE = Section("step time over fixed, K = 1, one thread", is_gain=False)
EIGHT_TASKS = Section("step time over fixed, 8 tasks, K = 10, one thread", is_gain=False)
OVERHEADS = Section("time over that of training steps alone", is_gain=False)
SECTIONS = (LIMITS, WAYS, PEERS, TORCHJD, BALANCER, STACKED, SINGLE, EIGHT_TASKS, OVERHEADS)


@dataclass(frozen=True)
class Row:
    """One loop of ours beside another.

    `costs` is our time over theirs on the same number of samples, in each round; `rates` are the samples/s of both, in
    the median; `bound` is what the ratio is held to, at least for a gain and at most for a cost.
    """

    section: Section
    name: str
    test: str
    rates: tuple[float, float]
    costs: list[float]
    bound: float | None

    @property
    def ratios(self) -> list[float]:
        """What is shown of each round: the cost, or the gain."""
        return [1 / cost for cost in self.costs] if self.section.is_gain else self.costs

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def wanted(self) -> str:
        return "" if self.bound is None else f"{'>=' if self.section.is_gain else '<='} {self.bound:.2f}"

    @property
    def misses(self) -> bool:
        if self.bound is None:
            return False
        return self.ratio < self.bound if self.section.is_gain else self.ratio > self.bound

    def to_store(self) -> dict[str, object]:
        """What a later run is compared with."""
        return {"costs": self.costs, "rate": self.rates[0]}


@dataclass(frozen=True)
class Stored:
    """An earlier run, from pytest-benchmark's storage: what each test stored, when, and of which commit."""

    when: str
    commit: str
    same_machine: bool
    tests: Mapping[str, Mapping[str, Any]]

    def is_slower(self, row: Row) -> bool:
        """Whether a row costs more of the loop beside it, by more than the rounds of either run differ by."""
        then = self.tests.get(row.test)
        if then is None:
            return False
        rose = statistics.median(row.costs) > SLOWER * statistics.median(then["costs"])
        return rose and statistics.quantiles(row.costs)[0] > statistics.quantiles(then["costs"])[-1]


@dataclass
class Ratios:
    """All rows of a run, and the run they are compared with, if one was asked for."""

    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stored: Stored | None = None

    def show(self, console: Console) -> None:
        """Print the table, section by section, and below it what got slower."""
        console.print(self._table())
        for note in self.notes:
            console.print(note, highlight=False, markup=False)
        if self.stored is not None:
            slower = [f"{row.name} ({row.section.title})" for row in self.rows if self.stored.is_slower(row)]
            machine = "" if self.stored.same_machine else " on another machine"
            run = f"than the run of {self.stored.when}{machine}, commit {self.stored.commit}"
            text = f"{len(slower)} of {len(self.rows)} got slower {run}: {', '.join(slower)}"
            console.print(text if slower else f"nothing got slower {run}", highlight=False, markup=False)

    def _table(self) -> Table:
        table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
        table.add_column("median over rounds that take turns", no_wrap=True)
        compared = ["ratio then", "now over then"] if self.stored else []
        for header in ("samples/s", "of the other", "ratio", "range", "wanted", *compared):
            table.add_column(header, justify="right")
        table.add_column("")
        for section in SECTIONS:
            rows = [row for row in self.rows if row.section == section]
            if rows:
                table.add_section()
                table.add_row(f"[bold]{section.title}[/bold]")
            for row in rows:
                table.add_row(*self._cells(row))
        return table

    def _cells(self, row: Row) -> list[str]:
        ratios, marks = row.ratios, ["[red]missed[/red]"] if row.misses else []
        cells = [
            f"  {row.name}",
            *(f"{rate:,.0f}" for rate in row.rates),
            f"{row.ratio:.2f}",
            f"{min(ratios):.2f} to {max(ratios):.2f}",
            row.wanted,
        ]
        if self.stored is not None:
            then = self.stored.tests.get(row.test)
            if then is None:
                cells += ["", "new"]
            else:
                cost = statistics.median(then["costs"])
                cells += [f"{1 / cost if row.section.is_gain else cost:.2f}", f"{row.rates[0] / then['rate']:.2f}"]
            marks += ["[red]slower[/red]"] if self.stored.is_slower(row) else []
        return [*cells, " ".join(marks)]
