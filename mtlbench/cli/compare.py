"""The command `compare`."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from mtlbench.cli.console import open_console, table_of
from mtlbench.cli.options import OutOption, check_name
from mtlbench.contracts.metrics import Metric

if TYPE_CHECKING:
    from mtlbench.stats.two_benches import Versus

SHOWN = 40


def run_compare(
    before: Annotated[str, typer.Argument(help="Name of the earlier bench.")],
    after: Annotated[str, typer.Argument(help="Name of the later bench.")],
    out: OutOption = Path("results"),
) -> None:
    """Show what changed between two benches: conditions that differ, and all common runs, paired by seed.

    Example: `mtlbench compare reference mine`
    """
    check_name(before)
    check_name(after)
    from mtlbench.records.store import Store
    from mtlbench.stats.two_benches import versus

    show(versus(Store(out / before), Store(out / after)), open_console())


def show(versus: Versus, console: Console) -> None:
    """Print the conditions that differ, then the comparisons with the smallest p."""
    before, after = versus.names
    console.print(f"{after} compared with {before}", style="bold", highlight=False)
    for text in versus.conditions or ["same conditions, machine, versions and commit"]:
        console.print(f"  {escape(text)}", highlight=False)
    for name, labels in zip(versus.names, versus.only, strict=True):
        if labels:
            console.print(f"  only in {name}: {escape(', '.join(labels))}", highlight=False)
    rows = versus.scores.sort_values("p", kind="stable").head(SHOWN)
    table = table_of("setup", "strategy", "task", before, after, "difference", "p", "p Holm", "", left=3)
    for row in rows.to_dict("records"):
        table.add_row(*(escape(text) for text in _cells(row)))
    console.print(table)
    if len(versus.scores) > SHOWN:
        console.print(f"{len(versus.scores) - SHOWN} more with a larger p are not shown", style="dim", highlight=False)
    verdicts = list(versus.scores["verdict"])
    counts = ", ".join(f"{verdicts.count(name)} {name}" for name in ("better", "worse", "none shown", "too few seeds"))
    console.print(
        f"{len(versus.scores)} scores, {versus.identical} of them identical for every seed; after Holm's correction "
        f"for each metric: {counts}",
        highlight=False,
    )


def _cells(row: dict[Any, Any]) -> list[str]:
    metric = Metric.of(row)
    text = partial(metric.difference, unit=False)
    mean, difference, low, high = (row[name] for name in ("mean", "difference", "difference_low", "difference_high"))
    return [
        *(row[name] for name in ("setup", "strategy", "task")),
        f"{metric.name} {metric.score(mean - difference)}",
        f"{metric.name} {metric.score(mean)}",
        text(difference) + (f" [{text(low)}, {text(high)}]" if math.isfinite(low) else ""),
        *(f"{row[name]:.2g}" if math.isfinite(row[name]) else "" for name in ("p", "p_holm")),
        row["verdict"],
    ]
