"""Executes what is missing of a bench, and measures the cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Protocol

from mtlbench import environment, jobs, tables
from mtlbench.harness import Progress
from mtlbench.planning import Plan, Planned, Request, bench_runs, planned
from mtlbench.records import BenchRecord, Cost, CostRecord, Result, RunRecord, TaskInfo, role_of
from mtlbench.store import Store
from mtlbench.tasks import Setup
from mtlbench.workers import WorkerError, Workers, side_by_side

# torch.optim imports torch._dynamo when it is first used: done once here, not for seconds in each worker.
PRELOAD = ["mtlbench.jobs", "torch._dynamo"]
ROUNDS, TURN_SECONDS = 9, 0.15  # of the cost measurement


class Display(Protocol):
    """Where the progress of a bench is shown."""

    def note(self, text: str) -> None:
        """Say one thing."""

    def run_started(self, label: str, epochs: int) -> None:
        """A run has begun."""

    def run_moved(self, label: str, progress: Progress) -> None:
        """A run has come further."""

    def run_ended(self, label: str, outcome: str) -> None:
        """A run goes on no more; `outcome` is its scores or its error."""


def execute(plan: Plan, display: Display) -> bool:
    """Compute the runs that are missing and the speeds that have not been measured.

    Each run is stored as soon as it is complete. A run that fails is stored with its error, and is tried
    again by the next call.

    Returns:
        Whether every strategy has a complete run and a measured speed.
    """
    plan.store.prepare()
    complete = {run.name for run in plan.runs if _is_stored(plan.store, run)}
    missing = [run for run in plan.runs if run.name not in complete]
    if complete:
        display.note(f"{len(complete)} of {len(plan.runs)} runs are already there")
    for text in plan.notes:
        display.note(text)
    _write_bench(plan)
    workers = Workers(PRELOAD)
    try:
        if missing:
            complete |= _train_all(plan, missing, workers, display)
        measured = _measure_missing(plan, complete, workers, display)
    finally:
        workers.stop()
    for setup in dict.fromkeys(run.setup.name for run in plan.runs):
        for text in tables.identical_runs(plan.store.runs(setup)):
            display.note(text)
    return measured and len(complete) == len(plan.runs)


def _is_stored(store: Store, run: Planned) -> bool:
    record = store.run(run.setup.name, run.spec.label)
    return record is not None and record.key == run.key and record.result is not None


def _write_bench(plan: Plan) -> None:
    before, command = plan.store.bench(), plan.request.command
    runs = bench_runs(before, plan.runs)
    if before is not None:
        commands = before.commands if command in before.commands else [*before.commands, command]
        plan.store.write_bench(before.model_copy(update={"runs": runs, "commands": commands}))
        return
    plan.store.write_bench(
        BenchRecord(
            name=plan.request.name,
            commands=[command],
            created=environment.now(),
            conditions=plan.conditions,
            runs=runs,
            environment=environment.describe(plan.conditions.device),
        )
    )


def at_once(request: Request, device: str, jobs: int) -> int:
    """How many jobs go side by side: as asked, else one per core on cpu, one on any other device."""
    return min(request.jobs or (environment.cores() if device == "cpu" else 1), jobs)


def _train_all(plan: Plan, runs: Sequence[Planned], workers: Workers, display: Display) -> set[str]:
    """Names of those that are complete now."""
    side = at_once(plan.request, plan.conditions.device, len(runs))
    display.note(
        f"training {len(runs)} runs of {len(plan.conditions.seeds)} seeds and {plan.conditions.epochs} epochs "
        f"on {plan.conditions.device}, {side} at a time"
    )
    complete: set[str] = set()

    def work(run: Planned) -> Result:
        display.run_started(run.name, run.settings.epochs)
        job = jobs.RunJob(run.spec, run.settings, plan.request.plugins)
        return workers.call(jobs.train, job, partial(display.run_moved, run.name))

    def done(run: Planned, future: Future[Result]) -> None:
        record = _record(plan, run, future)
        plan.store.write_run(record)
        if record.result is not None:
            complete.add(run.name)
        display.run_ended(run.name, record.outcome)

    side_by_side(runs, side, work, done, workers)
    return complete


def _record(plan: Plan, run: Planned, future: Future[Result]) -> RunRecord:
    source = plan.registry.source(run.spec.name)
    make: Callable[..., RunRecord] = partial(
        RunRecord,
        key=run.key,
        spec=run.spec,
        settings=run.settings,
        tasks=task_infos(run.setup),
        source_file=source.name,
        source=source.read_text(encoding="utf-8", errors="replace"),
    )
    if planned(run.spec, run.setup, plan.conditions, plan.registry, several=False).key != run.key:
        return make(error="its file was edited while it was trained: run the bench again")
    try:
        return make(result=future.result())
    except WorkerError as error:
        return make(error=str(error), traceback=error.traceback)


def task_infos(setup: Setup) -> list[TaskInfo]:
    """The tasks of a setup as they are stored."""
    return [TaskInfo(name=task.name, metric=task.metric) for task in setup.tasks]


def _measure_missing(plan: Plan, complete: set[str], workers: Workers, display: Display) -> bool:
    """Measure the strategies of the main setup that have a complete run and no speed yet; False if that failed.

    Only those at their defaults or as written: tuned settings, other fixed weights and a task alone are the same step.
    """
    bench = plan.store.bench()
    assert bench is not None
    stored = plan.store.costs()
    there = [run for run in plan.runs if run.setup.name == bench.main_setup and role_of(run.spec.label) == "strategy"]
    keys = {run.spec.label: run.key for run in there}
    kept = [cost for cost in (stored.costs if stored else []) if keys.get(cost.label, cost.key) == cost.key]
    known = {cost.label for cost in kept}
    runs = [run for run in there if run.spec.label not in known and run.name in complete]
    if not runs:
        return True
    display.note(f"measuring the speed of {len(runs)} strategies, alone on the machine")
    job = jobs.CostJob(
        tuple(run.spec for run in runs),
        runs[0].settings,
        plan.request.plugins,
        stacks=tuple(sorted({1, len(plan.conditions.seeds)})),
        rounds=ROUNDS,
        turn_seconds=TURN_SECONDS,
    )
    try:
        timings = workers.call(jobs.measure, job, lambda text: display.note(f"  {text}"))
    except WorkerError as error:
        display.note(f"the speeds could not be measured: {error}")
        return False
    samples = plan.conditions.batch_size
    measured = [
        Cost(
            key=keys[timing.label],
            label=timing.label,
            replicas=timing.replicas,
            samples_per_second=[samples * timing.replicas / step for step in timing.step_seconds],
            ratios=[step / base for step, base in zip(timing.step_seconds, timing.baseline_seconds, strict=True)],
            peak_memory=timing.peak_memory,
        )
        for timing in timings
    ]
    plan.store.write_costs(CostRecord(threads=jobs.THREADS, costs=[*kept, *measured]))
    return True
