"""A bench as read from its store, and the frames that everything shown is taken from."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from mtlbench.errors import UserError
from mtlbench.records.anomalies import identical_runs
from mtlbench.records.records import BenchRecord, RunRecord, SpeedRecord, TaskInfo, TuningRecord
from mtlbench.records.store import Store
from mtlbench.stats import frames
from mtlbench.stats.comparisons import scores_frame, seeds_needed, with_delta_m
from mtlbench.stats.estimates import ENOUGH_SEEDS


@dataclass(frozen=True)
class Findings:
    """A bench as read from its store, and the frames that everything shown is taken from."""

    bench: BenchRecord
    runs: dict[str, list[RunRecord]]
    tuned: dict[str, list[TuningRecord]]
    costs: SpeedRecord | None
    scores: pd.DataFrame
    per_seed: pd.DataFrame
    curves: pd.DataFrame
    speeds: pd.DataFrame
    summaries: dict[str, pd.DataFrame]

    @property
    def tasks(self) -> dict[str, list[TaskInfo]]:
        """The tasks of each setup, the main one first."""
        return {setup: runs[0].tasks for setup, runs in self.runs.items()}

    @property
    def main_tasks(self) -> dict[str, str]:
        """The main task of each setup, the bench's main setup first."""
        return {setup: tasks[0].name for setup, tasks in self.tasks.items()}

    @property
    def conditions(self) -> str:
        """The conditions of all runs in a line."""
        asked = self.bench.conditions
        return (
            f"{len(asked.seeds)} seed{'s' if len(asked.seeds) > 1 else ''}, "
            f"{asked.epochs} epoch{'s' if asked.epochs > 1 else ''}, batch {asked.batch_size}, "
            f"Adam with learning rate {asked.lr:g}{' where not tuned' if self.tuned else ''}, {asked.device}"
        )

    @property
    def commands(self) -> list[str]:
        """What was typed to make the bench, its tuning first."""
        tuning = [record.command for own in self.tuned.values() for record in own]
        return list(dict.fromkeys([*tuning, *self.bench.commands]))

    @property
    def notes(self) -> list[str]:
        """What a reader must know: failed and diverged runs, suspiciously equal ones, too few seeds."""
        several = len(self.runs) > 1
        notes: list[str] = []
        for setup, runs in self.runs.items():
            where = f"{setup}: " if several else ""
            notes += [f"{where}{run.spec.label} {run.problem}" for run in runs if run.problem]
            notes += [f"{where}{text}" for text in identical_runs(runs)]
            notes += [f"{where}{text}" for text in frames.without_delta_m(runs)]
        seeds = len(self.bench.conditions.seeds)
        if seeds < ENOUGH_SEEDS:
            notes.append(f"{seeds} seeds are too few for a 95% interval; {ENOUGH_SEEDS} are needed")
        most = self.scores["comparisons"].max()
        if pd.notna(most) and seeds < (needed := seeds_needed(int(most))):
            notes.append(f"{seeds} seeds can show no difference among {int(most)} comparisons; {needed} are needed")
        return notes


def read(store: Store) -> Findings:
    """Read a bench and compute its comparisons.

    Raises:
        UserError: there is no such bench, it has no runs yet, or a stored file cannot be read.
    """
    bench = store.require_bench()
    runs = {setup: there for setup in bench.runs if (there := store.runs(setup))}
    if not runs:
        raise UserError(f"the bench in {store.folder} has no runs yet: run it again")
    every = [run for there in runs.values() for run in there]
    per_seed = with_delta_m(frames.runs_frame(every))
    scores, costs = scores_frame(per_seed), store.speeds()
    speeds = frames.speeds_frame(costs, [run.spec.label for run in runs.get(bench.main_setup, [])])
    summaries = {
        setup: frames.summary_frame(
            there, scores[scores["setup"] == setup], speeds if setup == bench.main_setup else speeds.iloc[:0]
        )
        for setup, there in runs.items()
    }
    tuned = {setup: there for setup in bench.runs if (there := store.tuned(setup))}
    return Findings(bench, runs, tuned, costs, scores, per_seed, frames.curves_frame(every), speeds, summaries)
