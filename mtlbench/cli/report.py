"""The command `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtlbench.cli.console import open_console
from mtlbench.cli.options import OutOption, check_name


def run_report(
    name: Annotated[str, typer.Argument(help="Name of the bench.")] = "default",
    out: OutOption = Path("results"),
) -> None:
    """Make the tables, plots and README of a bench again from its stored runs.

    Example: `mtlbench report reference`
    """
    check_name(name)
    from mtlbench.records.store import Store
    from mtlbench.report import terminal
    from mtlbench.report.writing import write_report

    terminal.show(write_report(Store(out / name)), open_console())
