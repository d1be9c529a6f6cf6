"""Where commands write: the terminal or a log, and complaints of one line."""

from __future__ import annotations

from collections.abc import Iterable

import typer
from rich.console import Console

from mtlbench.errors import printable

LOG_WIDTH = 120


def open_console() -> Console:
    """Of the terminal's width; in a log, wide enough for the table."""
    console = Console()
    return console if console.is_terminal else Console(width=LOG_WIDTH)


def complain(text: str) -> None:
    """One line on standard error, in the program's name; what a terminal would act on is shown as Python writes it."""
    typer.echo(f"mtlbench: {printable(text)}", err=True)


def warn(problems: Iterable[str]) -> None:
    """A line for each."""
    for problem in problems:
        complain(problem)
