"""The command `selftest-stats`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtlbench.cli.console import open_console
from mtlbench.cli.options import OutOption, check_name

if TYPE_CHECKING:
    from rich.console import Console

    from mtlbench.stats.selftest import Control


def run_selftest(
    name: Annotated[str, typer.Argument(help="A bench of at least 12 seeds.")] = "reference",
    resamplings: Annotated[int, typer.Option(help="Comparisons of each kind per run and task.", min=1)] = 200,
    out: OutOption = Path("results"),
) -> None:
    """Test the statistics on stored runs: compare halves of the same seeds, as they are and with a planted difference.

    Exit code 1: differences are declared where there are none, or planted ones are missed.
    """
    check_name(name)
    from mtlbench.records.store import Store
    from mtlbench.stats import selftest

    if not show(*selftest.run(Store(out / name), resamplings), open_console()):
        raise typer.Exit(1)


def show(nothing: Control, planted: Control, console: Console) -> bool:
    """Print both shares; True if they are as they should be."""
    from mtlbench.stats.estimates import LEVEL
    from mtlbench.stats.selftest import WANTED_POWER

    def text(control: Control) -> str:
        low, high = control.interval
        return f"{control.share:.2%} [{low:.2%}, {high:.2%}] of {control.made:,} comparisons"

    holds = nothing.interval[0] <= LEVEL and planted.share >= WANTED_POWER
    console.print(
        f"A/A: {text(nothing)} of the same strategy declared a difference (at most {LEVEL:.0%} should)\n"
        f"planted, twice the smallest detectable difference: {text(planted)} found it "
        f"(at least {WANTED_POWER:.0%} should)\n" + ("both hold" if holds else "this does NOT hold"),
        highlight=False,
        soft_wrap=True,
    )
    return holds
