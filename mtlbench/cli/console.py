"""The output of commands: to a terminal or a log, with one-line error messages."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mtlbench.errors import printable

LOG_WIDTH = 120
READER_GONE = 128 + 13  # SIGPIPE, which not every system defines


def open_console() -> Console:
    """A console as wide as the terminal; in a log, wide enough for the table."""
    console = _Console()
    return console if console.is_terminal else _Console(width=LOG_WIDTH)


def plain(console: Console, text: str) -> None:
    """Print text as it is, without markup, highlighting or line breaks."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def table_of(*headers: str, left: int | None = None) -> Table:
    """An empty table; its first `left` columns (all by default) are aligned to the left, the others to the right."""
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for position, header in enumerate(headers):
        table.add_column(
            escape(header), justify="left" if left is None or position < left else "right", overflow="fold"
        )
    return table


class _Console(Console):
    """A console that ends the program with the system's exit code when its reader has gone (`| head`)."""

    def on_broken_pipe(self) -> None:
        try:
            super().on_broken_pipe()
        except SystemExit:
            sys.exit(READER_GONE)


def complain(text: str) -> None:
    """Print one line on standard error, with the program's name and control characters escaped."""
    typer.echo(f"mtlbench: {printable(text)}", err=True)


def warn(problems: Iterable[str]) -> None:
    """Print a line for each problem."""
    for problem in problems:
        complain(problem)
