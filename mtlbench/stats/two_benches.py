"""What changed between two benches: which conditions differ, and every common run compared, paired by seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from mtlbench.errors import UserError
from mtlbench.records.records import BenchRecord
from mtlbench.records.roles import role_of
from mtlbench.records.store import Store
from mtlbench.stats.comparisons import ScoreKey, comparison_table, paired, samples_of, with_delta_m
from mtlbench.stats.frames import runs_frame


@dataclass(frozen=True)
class Versus:
    """Two benches side by side.

    `scores` is a `comparisons.comparison_table`: the later bench's means, and differences to the earlier one.
    `identical` counts the scores in it that are the same for every seed.
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
        comparison_table(groups),
        sum(len(group.differences) > 0 and not group.differences.any() for group in groups),
        (sorted(names[0] - names[1]), sorted(names[1] - names[0])),
    )


def _read(store: Store) -> tuple[BenchRecord, Mapping[ScoreKey, pd.Series[float]]]:
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
