"""Trains the runs of a bench: splits them into stacks, trains these side by side, and stores each complete run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from mtlbench.bench import jobs
from mtlbench.bench.display import Display, ShownJob
from mtlbench.bench.places import Place, carry_out_all
from mtlbench.bench.planning import Plan, PlannedRun, digests_of, stack_job, task_infos
from mtlbench.bench.processes import ProcessError
from mtlbench.contracts.setup import Setup
from mtlbench.plugins.registry import Registry
from mtlbench.records import environment
from mtlbench.records.history import Evaluation, Result, Trajectory
from mtlbench.records.records import OwnSetup, RunRecord, key_of
from mtlbench.records.roles import role_of

MANY_CORES = 32  # about as many as a bench of all strategies has runs

Seeds = tuple[int, ...]


def train_missing(plan: Plan, complete: set[str], place: Place, display: Display) -> set[str]:
    """Train the runs that are not complete; returns the names of those that are complete now."""
    conditions = plan.conditions
    runs = {run.name: run for run in plan.runs if run.name not in complete}
    cores, count = environment.cores() if conditions.device == "cpu" else 1, len(conditions.seeds)
    stacks = {
        name: split(conditions.seeds, stack_count(count, cores, single=_is_single(run))) for name, run in runs.items()
    }
    ended: dict[str, dict[int, Result | ProcessError]] = {name: {} for name in runs}
    trained: set[str] = set()

    def done(stack: tuple[str, int], outcome: Result | ProcessError) -> str:
        name, number = stack
        ended[name][number] = outcome
        if len(ended[name]) < len(stacks[name]):
            return "done"
        outcomes = [ended[name][number] for number in range(len(stacks[name]))]
        record = _store(plan, runs[name], stacks[name], outcomes)
        if record.result is not None:
            trained.add(name)
        return record.outcome

    display.note(
        f"training {len(runs)} runs of {len(conditions.seeds)} seeds and {conditions.epochs} epochs "
        f"on {conditions.device}, {place.size}"
    )
    work: dict[tuple[str, int], tuple[jobs.StackJob, ShownJob]] = {}
    # The most work first; single tasks last, since they are divided.
    for run in sorted(runs.values(), key=lambda run: (_is_single(run), -run.work)):
        for number, seeds in enumerate(stacks[run.name]):
            part = f" (seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))})"
            title = run.name + (part if len(stacks[run.name]) > 1 else "")
            key = key_of(run=run.key, seeds=list(seeds), versions=environment.versions())
            checkpoint = plan.store.checkpoint(run.setup.name, run.spec.label, number)
            job = stack_job(plan.registry, plan.request.plugins, run.spec, run.settings, seeds, key, checkpoint)
            work[run.name, number] = job, ShownJob(display, title, conditions.epochs)
    carry_out_all(place, jobs.train, work, done)
    return trained


def _is_single(run: PlannedRun) -> bool:
    return role_of(run.spec.label) == "single"


def stack_count(seeds: int, cores: int, *, single: bool) -> int:
    """Number of stacks of a run, whose seeds are trained together.

    A large stack is the fastest per sample, so a run is one stack as long as there are enough runs for the cores.
    Single tasks start last and are divided among all cores, so that no core waits for the last run. The number does
    not depend on the other runs, so a run has the same result in every bench on a machine.
    """
    return min(seeds, cores if single else max(1, cores // MANY_CORES))


def split(seeds: Seeds, count: int) -> tuple[Seeds, ...]:
    """The seeds in `count` stacks whose sizes differ by at most one."""
    ends = [len(seeds) * i // count for i in range(count + 1)]
    return tuple(seeds[begin:end] for begin, end in pairwise(ends))


def joined(results: Sequence[Result]) -> Result:
    """The result of a run from those of its stacks, in their order."""
    first = results[0].trajectory

    def stretches(name: str) -> Any:  # noqa: ANN401 - None only if the field may be None
        """One matrix per stretch of training, with the rows of all stacks; None if it was not recorded."""
        if getattr(first, name) is None:
            return None
        columns = [getattr(result.trajectory, name) for result in results]
        return [[row for matrix in stretch for row in matrix] for stretch in zip(*columns, strict=True)]

    return Result(
        [_joined(epoch) for epoch in zip(*(result.validation for result in results), strict=True)],
        Trajectory(first.epochs, *map(stretches, ("losses", "weights", "norms", "cosines"))),
        [step for result in results for step in result.diverged],
        sum(result.training_seconds for result in results),
        _joined([result.test for result in results]),
    )


def _joined(evaluations: Sequence[Evaluation]) -> Evaluation:
    return Evaluation(
        [row for each in evaluations for row in each.losses], [row for each in evaluations for row in each.scores]
    )


def _store(
    plan: Plan, run: PlannedRun, stacks: Sequence[Seeds], outcomes: Sequence[Result | ProcessError]
) -> RunRecord:
    """Store a run whose stacks have all ended."""
    registry = plan.registry
    results = [outcome for outcome in outcomes if isinstance(outcome, Result)]
    failure = next((outcome for outcome in outcomes if isinstance(outcome, ProcessError)), None)
    source = registry.source(run.spec.name)
    text, own_setup, error = "", None, None if failure is None else str(failure)
    try:
        text, own_setup = _text_of(source), _own_setup(run.setup, registry)
        if digests_of(registry, run.spec.name, run.setup.name) != run.digests:
            error = "its file was edited while it was trained: run the bench again"
    except OSError as gone:
        error = f"{gone.filename} can no longer be read ({gone.strerror}): restore it and run the bench again"
    record = RunRecord(
        key=run.key,
        spec=run.spec,
        settings=run.settings,
        tasks=task_infos(run.setup),
        warm_up=run.warm_up,
        source_file=source.name,
        source=text,
        own_setup=own_setup,
        stacks=[list(seeds) for seeds in stacks],
        result=joined(results) if error is None else None,
        error=error,
    )
    plan.store.write_run(record, "" if failure is None else _details(failure))
    if record.result is not None:
        plan.store.drop_checkpoints(run.setup.name, run.spec.label)
    return record


def _own_setup(setup: Setup, registry: Registry) -> OwnSetup | None:
    if registry.setup_digest(setup.name) is None:
        return None
    file = registry.setups[setup.name].file
    return OwnSetup(about=setup.about, source_file=file.name, source=_text_of(file))


def _text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")


def _details(error: ProcessError) -> str:
    """The traceback of a failure, and the end of what its process printed."""
    printed = f"\nprinted at the end:\n{error.output}" if error.output else ""
    return f"{error.traceback or error}\n{printed}"
