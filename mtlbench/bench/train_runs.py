"""Trains the runs of a bench: splits them into stacks, trains these side by side, and stores each complete run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from mtlbench.bench import jobs
from mtlbench.bench.display import Display, ShownJob
from mtlbench.bench.places import Place, carry_out_all
from mtlbench.bench.planning import Plan, PlannedRun, digests_of, stack_job, task_infos
from mtlbench.bench.processes import ProcessError
from mtlbench.contracts.setup import Setup
from mtlbench.plugins.registry import Registry
from mtlbench.records import environment
from mtlbench.records.history import Evaluation, Matrix, Result, Trajectory
from mtlbench.records.records import OwnSetup, RunRecord, key_of
from mtlbench.records.roles import role_of

MANY_CORES = 32  # about as many as a bench of all strategies has runs

Seeds = tuple[int, ...]


@dataclass(eq=False)
class DividedRun:
    """A run, the seeds of its stacks, and the outcomes of those that have ended."""

    run: PlannedRun
    seeds: tuple[Seeds, ...]
    outcomes: dict[int, Result | ProcessError] = field(default_factory=dict)


@dataclass(frozen=True)
class Stack:
    """One stack of a run: what one worker trains."""

    of: DividedRun
    number: int

    @property
    def title(self) -> str:
        """The run's name, with the seeds if the run has several stacks."""
        seeds = self.of.seeds[self.number]
        if len(self.of.seeds) == 1:
            return self.of.run.name
        return f"{self.of.run.name} (seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))})"


def train_missing(plan: Plan, complete: set[str], place: Place, display: Display) -> set[str]:
    """Train the runs that are not complete; returns the names of those that are complete now."""
    missing = [divided for divided in divide(plan) if divided.run.name not in complete]
    stacks = [Stack(divided, number) for divided in missing for number in range(len(divided.seeds))]
    conditions = plan.conditions
    display.note(
        f"training {len(missing)} runs of {len(conditions.seeds)} seeds and {conditions.epochs} epochs "
        f"on {conditions.device}, {place.size}"
    )
    trained: set[str] = set()

    def done(stack: Stack, outcome: Result | ProcessError) -> str:
        divided = stack.of
        divided.outcomes[stack.number] = outcome
        if len(divided.outcomes) < len(divided.seeds):
            return "done"
        record = _store(plan, divided)
        if record.result is not None:
            trained.add(divided.run.name)
        return record.outcome

    work = {stack: (_job(plan, stack), ShownJob(display, stack.title, conditions.epochs)) for stack in stacks}
    carry_out_all(place, jobs.train, work, done)
    return trained


def divide(plan: Plan) -> list[DividedRun]:
    """All runs with their stacks, those with the most work first; single tasks come last, since they are divided."""
    seeds, cores = plan.conditions.seeds, environment.cores() if plan.conditions.device == "cpu" else 1
    single = {run.name: role_of(run.spec.label) == "single" for run in plan.runs}
    return [
        DividedRun(run, split(seeds, stack_count(len(seeds), cores, single=single[run.name])))
        for run in sorted(plan.runs, key=lambda run: (single[run.name], -run.work))
    ]


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

    def stretches(name: str) -> list[Matrix]:
        """One matrix per stretch of training, with the rows of all stacks."""
        columns = [getattr(result.trajectory, name) for result in results]
        return [[row for matrix in stretch for row in matrix] for stretch in zip(*columns, strict=True)]

    return Result(
        [_joined(epoch) for epoch in zip(*(result.validation for result in results), strict=True)],
        Trajectory(
            first.epochs,
            stretches("losses"),
            stretches("weights"),
            None if first.norms is None else stretches("norms"),
            None if first.cosines is None else stretches("cosines"),
        ),
        [step for result in results for step in result.diverged],
        sum(result.training_seconds for result in results),
        _joined([result.test for result in results]),
    )


def _joined(evaluations: Sequence[Evaluation]) -> Evaluation:
    return Evaluation(
        [row for each in evaluations for row in each.losses], [row for each in evaluations for row in each.scores]
    )


def _job(plan: Plan, stack: Stack) -> jobs.StackJob:
    run, seeds = stack.of.run, stack.of.seeds[stack.number]
    key = key_of(run=run.key, seeds=list(seeds), versions=environment.versions())
    checkpoint = plan.store.checkpoint(run.setup.name, run.spec.label, stack.number)
    return stack_job(plan.registry, plan.request.plugins, run.spec, run.settings, seeds, key, checkpoint)


def _store(plan: Plan, divided: DividedRun) -> RunRecord:
    """Store a run whose stacks have all ended."""
    run, registry = divided.run, plan.registry
    outcomes = [divided.outcomes[number] for number in range(len(divided.seeds))]
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
        source_file=source.name,
        source=text,
        own_setup=own_setup,
        stacks=[list(seeds) for seeds in divided.seeds],
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
