"""Where commands write: the terminal or a log, and complaints of one line."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import typer
from rich.console import Console

from mtlbench.errors import printable

LOG_WIDTH = 120
READ_NO_MORE = 128 + 13  # SIGPIPE, which has no name on every system


def open_console() -> Console:
    """Of the terminal's width; in a log, wide enough for the table."""
    console = _Console()
    return console if console.is_terminal else _Console(width=LOG_WIDTH)


class _Console(Console):
    """One that ends the program as the system would, by its exit code, where nobody reads any more (`| head`)."""

    def on_broken_pipe(self) -> None:
        try:
            super().on_broken_pipe()
        except SystemExit:
            sys.exit(READ_NO_MORE)


def complain(text: str) -> None:
    """One line on standard error, in the program's name; what a terminal would act on is shown as Python writes it."""
    typer.echo(f"mtlbench: {printable(text)}", err=True)


def warn(problems: Iterable[str]) -> None:
    """A line for each."""
    for problem in problems:
        complain(problem)
