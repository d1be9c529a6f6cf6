"""The command `compare`: what changed between two benches."""

from __future__ import annotations

import math
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mtlbench.contracts.metrics import Metric
from mtlbench.stats.two_benches import Versus

SHOWN = 40


def show(found: Versus, console: Console) -> None:
    """Print what differs in the conditions, then the comparisons, those with the smallest p first."""
    before, after = found.names
    console.print(f"{after} compared with {before}", style="bold", highlight=False)
    for text in found.conditions or ["same conditions, machine, versions and commit"]:
        console.print(f"  {escape(text)}", highlight=False)
    for name, labels in zip(found.names, found.only, strict=True):
        if labels:
            console.print(f"  only in {name}: {escape(', '.join(labels))}", highlight=False)
    rows = found.scores.sort_values("p", kind="stable").head(SHOWN)
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for position, header in enumerate(("setup", "strategy", "task", before, after, "difference", "p", "p Holm", "")):
        table.add_column(escape(header), justify="left" if position < 3 else "right", overflow="fold")
    for row in rows.to_dict("records"):
        table.add_row(*(escape(text) for text in _cells(row)))
    console.print(table)
    if len(found.scores) > SHOWN:
        console.print(f"{len(found.scores) - SHOWN} more with a larger p are not shown", style="dim", highlight=False)
    verdicts = found.scores["verdict"].value_counts()
    counts = ", ".join(
        f"{int(verdicts.get(name, 0))} {name}" for name in ("better", "worse", "none shown", "too few seeds")
    )
    console.print(
        f"{len(found.scores)} scores, {found.identical} of them identical for every seed; after Holm's correction "
        f"over each metric: {counts}",
        highlight=False,
    )


def _cells(row: dict[Any, Any]) -> list[str]:
    metric = Metric.of(row)
    mean, difference, low, high, p, p_holm = (
        float(str(row[name])) for name in ("mean", "difference", "difference_low", "difference_high", "p", "p_holm")
    )
    interval = f" [{metric.difference(low, unit=False)}, {metric.difference(high, unit=False)}]"
    return [
        str(row["setup"]),
        str(row["strategy"]),
        str(row["task"]),
        f"{metric.name} {metric.score(mean - difference)}",
        f"{metric.name} {metric.score(mean)}",
        metric.difference(difference, unit=False) + (interval if math.isfinite(low) else ""),
        f"{p:.2g}" if math.isfinite(p) else "",
        f"{p_holm:.2g}" if math.isfinite(p_holm) else "",
        str(row["verdict"]),
    ]
