"""Reads a bench from its store and computes the data frames that everything in its report is taken from."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from mtlbench.errors import UserError
from mtlbench.records.records import BenchRecord, RunRecord, SpeedRecord, TaskInfo, TuningRecord, identical_runs
from mtlbench.records.store import Store
from mtlbench.stats import frames
from mtlbench.stats.comparisons import scores_frame, seeds_needed, with_delta_m
from mtlbench.stats.estimates import ENOUGH_SEEDS


@dataclass(frozen=True)
class Findings:
    """A stored bench with its data frames.

    Attributes:
        runs, tuned: stored runs and tuning records of each setup.
        scores: `comparisons.scores_frame` over all setups.
        per_seed: `frames.runs_frame` of all setups, with Delta-m; the rows of `runs.csv`.
        curves: `frames.curves_frame` of all setups, a row per seed.
        speeds: `frames.speeds_frame` of the main setup.
        summaries: `frames.summary_frame` of each setup; the rows of `summary.csv`.
    """

    bench: BenchRecord
    runs: dict[str, list[RunRecord]]
    tuned: dict[str, list[TuningRecord]]
    speed_record: SpeedRecord | None
    scores: pd.DataFrame
    per_seed: pd.DataFrame
    curves: pd.DataFrame
    speeds: pd.DataFrame
    summaries: dict[str, pd.DataFrame]

    @property
    def tasks(self) -> dict[str, list[TaskInfo]]:
        """The tasks of each setup, main task first."""
        return {setup: runs[0].tasks for setup, runs in self.runs.items()}

    @property
    def main_tasks(self) -> dict[str, str]:
        """The main task of each setup, main setup first."""
        return {setup: tasks[0].name for setup, tasks in self.tasks.items()}

    @property
    def conditions(self) -> str:
        """The conditions of all runs, in one line."""
        asked = self.bench.conditions
        return (
            f"{len(asked.seeds)} seed{'s' if len(asked.seeds) > 1 else ''}, "
            f"{asked.epochs} epoch{'s' if asked.epochs > 1 else ''}, batch {asked.batch_size}, "
            f"Adam with learning rate {asked.lr:g}{' where not tuned' if self.tuned else ''}, {asked.device}"
            f"{'' if asked.precision == 'float32' else f', products in {asked.precision}'}"
        )

    @property
    def commands(self) -> list[str]:
        """The commands that made the bench, those that tuned first."""
        tuning = [record.command for records in self.tuned.values() for record in records]
        return list(dict.fromkeys([*tuning, *self.bench.commands]))

    @property
    def notes(self) -> list[str]:
        """Warnings for the reader: failed and diverged runs, identical runs, missing Delta-m, too few seeds."""
        several = len(self.runs) > 1
        notes: list[str] = []
        for setup, runs in self.runs.items():
            prefix = f"{setup}: " if several else ""
            notes += [f"{prefix}{run.spec.label} {run.problem}" for run in runs if run.problem]
            notes += [f"{prefix}{text}" for text in identical_runs(runs)]
            notes += [f"{prefix}{text}" for text in frames.without_delta_m(runs)]
        seeds = len(self.bench.conditions.seeds)
        if seeds < ENOUGH_SEEDS:
            notes.append(f"{seeds} seeds are too few for a 95% interval; use at least {ENOUGH_SEEDS}")
        most = self.scores["comparisons"].max()
        if pd.notna(most) and seeds < (needed := seeds_needed(int(most))):
            notes.append(
                f"no difference can be significant with {seeds} seeds and {int(most)} comparisons; use {needed} seeds"
            )
        return notes


def read(store: Store) -> Findings:
    """Read a bench and compute its data frames.

    Raises:
        UserError: there is no such bench, it has no runs yet, or a stored file cannot be read.
    """
    bench = store.require_bench()
    runs = {setup: records for setup in bench.runs if (records := store.runs(setup))}
    if not runs:
        raise UserError(f"the bench in {store.folder} has no runs yet: run it again")
    every = [run for records in runs.values() for run in records]
    per_seed = with_delta_m(frames.runs_frame(every))
    scores, record = scores_frame(per_seed), store.speeds()
    speeds = frames.speeds_frame(record, [run.spec.label for run in runs.get(bench.main_setup, [])])
    summaries = {
        setup: frames.summary_frame(
            records, scores[scores["setup"] == setup], speeds if setup == bench.main_setup else speeds.iloc[:0]
        )
        for setup, records in runs.items()
    }
    tuned = {setup: records for setup in bench.runs if (records := store.tuned(setup))}
    return Findings(bench, runs, tuned, record, scores, per_seed, frames.curves_frame(every), speeds, summaries)
