"""Trains the runs of a bench: divided into stacks, side by side, the largest first, each stored once it is complete."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from mtlbench.bench import jobs, stacks
from mtlbench.bench.display import Display, Shown
from mtlbench.bench.places import place_of, side_by_side
from mtlbench.bench.planning import Plan, PlannedRun, files_needed, planned, task_infos
from mtlbench.bench.processes import ProcessError, Processes
from mtlbench.bench.stacks import Seeds
from mtlbench.contracts.setup import Setup
from mtlbench.plugins.registry import Registry
from mtlbench.records import environment
from mtlbench.records.history import Result
from mtlbench.records.records import OwnSetup, RunRecord, key_of
from mtlbench.records.roles import role_of

COSTS = {"losses after the update": 1.4, "Gramian": 1.4, "Gramian of two more batches": 3.0, "Jacobian": 3.0}
"""Rough step times of strategies by what they need, relative to fixed weights; only the order of runs hangs on it."""


@dataclass(eq=False)
class Divided:
    """A run with its stacks, and what has come of each so far."""

    run: PlannedRun
    seeds: tuple[Seeds, ...]
    ended: dict[int, Result | ProcessError] = field(default_factory=dict)


@dataclass(frozen=True)
class Stack:
    """One stack of a run: what one worker trains."""

    of: Divided
    number: int

    @property
    def title(self) -> str:
        """The run's name, with the seeds if they are not all of them."""
        seeds = self.of.seeds[self.number]
        if len(self.of.seeds) == 1:
            return self.of.run.name
        return f"{self.of.run.name} (seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))})"


def train_missing(plan: Plan, complete: set[str], workers: Processes, display: Display) -> set[str]:
    """Train the runs that are not complete; returns the names of those that are complete now."""
    todo = [each for each in divide(plan, _needs(plan, workers)) if each.run.name not in complete]
    queue = [Stack(each, number) for each in todo for number in range(len(each.seeds))]
    conditions = plan.conditions
    place, at_once = place_of(plan.request, conditions.device)
    display.note(
        f"training {len(todo)} runs of {len(conditions.seeds)} seeds and {conditions.epochs} epochs "
        f"on {conditions.device}, {at_once}"
    )
    shown = {stack: Shown(display, stack.title, conditions.epochs) for stack in queue}
    trained: set[str] = set()

    def done(stack: Stack, future: Future[Result]) -> None:
        divided = stack.of
        try:
            divided.ended[stack.number] = future.result()
        except ProcessError as error:
            divided.ended[stack.number] = error
        outcome = "done"
        if len(divided.ended) == len(divided.seeds):
            record = _store(plan, divided)
            outcome = record.outcome
            if record.result is not None:
                trained.add(divided.run.name)
        shown[stack].end(outcome)

    futures = {place.submit(jobs.train, _job(plan, stack), shown[stack].report): stack for stack in queue}
    side_by_side(place, futures, done)
    return trained


def divide(plan: Plan, needs: Mapping[str, str]) -> list[Divided]:
    """All runs of a plan in the order in which they are started, the most work first, each with its stacks.

    Single tasks come last, being divided.
    """
    seeds, cores = plan.conditions.seeds, environment.cores() if plan.conditions.device == "cpu" else 1

    def one(run: PlannedRun) -> Divided:
        return Divided(run, stacks.divided(seeds, stacks.parts(len(seeds), cores, baseline=_is_baseline(run))))

    def order(run: PlannedRun) -> tuple[bool, float]:
        return _is_baseline(run), -_work(run.setup, needs.get(run.spec.name, ""))

    return [one(run) for run in sorted(plan.runs, key=order)]


def _is_baseline(run: PlannedRun) -> bool:
    return role_of(run.spec.label) == "single"


def _needs(plan: Plan, workers: Processes) -> dict[str, str]:
    origins = plan.registry.needed([run.spec.name for run in plan.runs], plan.runs[0].setup.name)
    try:
        return workers.call(jobs.strategy_needs, files_needed(plan.request, origins), lambda _: None)
    except ProcessError:  # a plugin took the process with it; its run will say so
        return {}


def _work(setup: Setup, needs: str) -> float:
    """Work of a run relative to others: samples seen, multiply-adds of each, and the strategy's cost."""
    return setup.passes * setup.training_size * setup.multiply_adds * COSTS.get(needs, 1.0)


def _job(plan: Plan, stack: Stack) -> jobs.StackJob:
    run, seeds = stack.of.run, stack.of.seeds[stack.number]
    key = key_of(run=run.key, seeds=list(seeds), versions=environment.versions())
    checkpoint = plan.store.checkpoint(run.setup.name, run.spec.label, stack.number)
    origins = plan.registry.needed([run.spec.name], run.setup.name)
    files = files_needed(plan.request, origins)
    return jobs.StackJob(run.spec, run.settings, seeds, files, key, checkpoint, origins)


def _store(plan: Plan, divided: Divided) -> RunRecord:
    """Store a run all of whose stacks have ended."""
    run = divided.run
    ended = [divided.ended[number] for number in range(len(divided.seeds))]
    failed = next((each for each in ended if isinstance(each, ProcessError)), None)
    source = plan.registry.source(run.spec.name)
    text, own_setup, result, error = "", None, None, None
    try:
        text, own_setup = _text_of(source), _own_setup(run.setup, plan.registry)
        if planned(run.spec, run.setup, plan.conditions, plan.registry, several=False).key != run.key:
            error = "its file was edited while it was trained: run the bench again"
    except OSError as gone:
        error = f"{gone.filename} cannot be read any more ({gone.strerror}): put it back and run the bench again"
    if error is None and failed is not None:
        error = str(failed)
    elif error is None:
        result = stacks.joined([each for each in ended if isinstance(each, Result)])
    record = RunRecord(
        key=run.key,
        spec=run.spec,
        settings=run.settings,
        tasks=task_infos(run.setup),
        source_file=source.name,
        source=text,
        own_setup=own_setup,
        stacks=[list(seeds) for seeds in divided.seeds],
        result=result,
        error=error,
    )
    plan.store.write_run(record, _details(failed) if failed is not None else "")
    if result is not None:
        plan.store.drop_checkpoints(run.setup.name, run.spec.label)
    return record


def _own_setup(setup: Setup, registry: Registry) -> OwnSetup | None:
    if registry.setup_digest(setup.name) is None:
        return None
    file = registry.setups[setup.name].file
    return OwnSetup(about=setup.about, source_file=file.name, source=_text_of(file))


def _text_of(file: Path) -> str:
    """A plugin's source."""
    return file.read_text(encoding="utf-8", errors="replace")


def _details(error: ProcessError) -> str:
    """The traceback of a failure and the end of what its process printed."""
    printed = f"\nprinted at the end:\n{error.output}" if error.output else ""
    return f"{error.traceback or error}\n{printed}"
