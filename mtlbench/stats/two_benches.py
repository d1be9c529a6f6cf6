"""Compares two benches: the conditions that differ, and the scores of all common runs, paired by seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from mtlbench.errors import UserError
from mtlbench.records.records import BenchRecord, Environment
from mtlbench.records.roles import role_of
from mtlbench.records.store import Store
from mtlbench.stats.comparisons import ScoreKey, comparison_table, paired, samples_of, with_delta_m
from mtlbench.stats.frames import runs_frame


@dataclass(frozen=True)
class Versus:
    """Comparison of two benches.

    `scores` is a `comparisons.comparison_table` with the means of the later bench and its differences to the earlier
    one. `identical` counts scores that are equal for every seed; `only` lists the runs that one bench lacks.
    """

    names: tuple[str, str]
    conditions: list[str]
    scores: pd.DataFrame
    identical: int
    only: tuple[list[str], list[str]]


def versus(before: Store, after: Store) -> Versus:
    """Compare two stored benches; differences are `after` minus `before`, for the seeds that both have.

    Raises:
        UserError: one of the benches does not exist, or they have no run in common.
    """
    (earlier, old), (later, new) = _read(before), _read(after)
    common = [key for key in new if key in old]
    if not common:
        raise UserError(f"{before.folder} and {after.folder} have no run of the same strategy on the same setup")
    groups = [
        paired(key, before.folder.name, new[key], old[key], tested=role_of(key.strategy) != "front") for key in common
    ]
    names = [{f"{setup} {strategy}" for setup, strategy, *_ in scores} for scores in (old, new)]
    return Versus(
        (before.folder.name, after.folder.name),
        _conditions(earlier, later),
        comparison_table(groups),
        sum(len(group.differences) > 0 and not group.differences.any() for group in groups),
        (sorted(names[0] - names[1]), sorted(names[1] - names[0])),
    )


def _read(store: Store) -> tuple[BenchRecord, Mapping[ScoreKey, pd.Series[float]]]:
    bench = store.require_bench()
    runs = [run for setup in bench.runs for run in store.runs(setup)]
    return bench, samples_of(with_delta_m(runs_frame(runs)))


def _conditions(before: BenchRecord, after: BenchRecord) -> list[str]:
    """A phrase for each difference in how the runs were trained and in the machine that trained them."""
    old, new = _facts(before.environment), _facts(after.environment)
    pairs = {name: (old.get(name, "none"), new.get(name, "none")) for name in old | new}
    changed = [f"{name} {one}, not {other}" for name, (one, other) in pairs.items() if one != other]
    return [*before.conditions.differences(after.conditions), *changed]


def _facts(at: Environment) -> dict[str, str | int]:
    facts = {"machine": at.machine, "cores": at.cores, "memory": f"{at.memory_gib} GiB", "system": at.system}
    return facts | {"commit": at.commit or "unknown"} | at.versions
