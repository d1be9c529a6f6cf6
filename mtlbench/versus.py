"""What changed between two benches: which conditions differ, and every common run compared, paired by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mtlbench.comparisons import Score, compare, paired, samples_of, with_delta_m
from mtlbench.errors import UserError
from mtlbench.metrics import Metric
from mtlbench.records import BenchRecord
from mtlbench.roles import role_of
from mtlbench.store import Store
from mtlbench.tables import runs_frame

SHOWN = 40


@dataclass(frozen=True)
class Versus:
    """Two benches side by side.

    `scores` is as `comparisons.compare` makes it: the later bench's means, differences to the earlier one; `identical`
    counts scores that are the same for every seed, which are in it too.
    """

    names: tuple[str, str]
    conditions: list[str]
    scores: pd.DataFrame
    identical: int
    only: tuple[list[str], list[str]]


def versus(before: Store, after: Store) -> Versus:
    """Compare two stored benches; differences are `after` minus `before`, on the seeds that both have.

    Raises:
        UserError: one of them is not there, or they have no run in common.
    """
    (earlier, theirs), (later, mine) = _read(before), _read(after)
    common = [key for key in mine if key in theirs]
    if not common:
        raise UserError(f"{before.folder} and {after.folder} have no run of the same strategy on the same setup")
    groups = [
        paired(key, before.folder.name, mine[key], theirs[key], tested=role_of(key.strategy) != "front")
        for key in common
    ]
    names = [{f"{setup} {strategy}" for setup, strategy, *_ in some} for some in (theirs, mine)]
    return Versus(
        (before.folder.name, after.folder.name),
        _conditions(earlier, later),
        compare(groups),
        sum(len(group.differences) > 0 and not group.differences.any() for group in groups),
        (sorted(names[0] - names[1]), sorted(names[1] - names[0])),
    )


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


def _read(store: Store) -> tuple[BenchRecord, Mapping[Score, pd.Series[float]]]:
    bench = store.bench()
    if bench is None:
        raise UserError(f"there is no bench in {store.folder}")
    runs = [run for setup in bench.runs for run in store.runs(setup)]
    return bench, samples_of(with_delta_m(runs_frame(runs)))


def _conditions(before: BenchRecord, after: BenchRecord) -> list[str]:
    """A phrase for each condition that differs, of the runs and of where they were made."""
    found = before.conditions.differences(after.conditions)
    one, other = before.environment, after.environment
    pairs = {
        "machine": (one.machine, other.machine),
        "cores": (one.cores, other.cores),
        "memory": (f"{one.memory_gib} GiB", f"{other.memory_gib} GiB"),
        "system": (one.system, other.system),
        "commit": (one.commit or "unknown", other.commit or "unknown"),
        **{
            name: (one.versions.get(name, "none"), other.versions.get(name, "none"))
            for name in dict.fromkeys([*one.versions, *other.versions])
        },
    }
    return [*found, *(f"{name} {mine}, not {theirs}" for name, (mine, theirs) in pairs.items() if mine != theirs)]


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
