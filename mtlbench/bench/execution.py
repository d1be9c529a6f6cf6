"""Executes what is missing of a bench, and measures the cost."""

from __future__ import annotations

from mtlbench.bench import jobs, train_runs
from mtlbench.bench.display import Display
from mtlbench.bench.places import workers_of
from mtlbench.bench.planning import Plan, PlannedRun, bench_runs, files_needed
from mtlbench.bench.processes import ProcessError, Processes
from mtlbench.records import environment
from mtlbench.records.anomalies import identical_runs
from mtlbench.records.records import BenchRecord, SpeedRecord, StepSpeed
from mtlbench.records.roles import role_of
from mtlbench.records.store import Store

ROUNDS, TURN_SECONDS = 9, 0.05  # of the cost measurement, in which all cores but one wait


def execute(plan: Plan, display: Display) -> bool:
    """Compute the runs that are missing and the speeds that have not been measured.

    Each run is stored as soon as it is complete, and goes on from the last epoch that one of its stacks finished if it
    was cut off. A run that fails is stored with its error, and is tried again by the next call.

    Returns:
        Whether every strategy has a complete run and a measured speed.

    Raises:
        UserError: another process works on this bench.
    """
    plan.store.prepare()
    with plan.store.locked():
        plan.store.drop_scratch()
        complete = {run.name for run in plan.runs if _is_stored(plan.store, run)}
        if complete:
            display.note(f"{len(complete)} of {len(plan.runs)} runs are already there")
        for text in plan.notes:
            display.note(text)
        write_asked(plan)
        workers = workers_of(plan.request)
        try:
            if len(complete) < len(plan.runs):
                complete |= train_runs.train_missing(plan, complete, workers, display)
            measured = _measure_missing(plan, complete, workers, display)
        finally:
            workers.stop()
    for setup in dict.fromkeys(run.setup.name for run in plan.runs):
        for text in identical_runs(plan.store.runs(setup)):
            display.note(text)
    return measured and len(complete) == len(plan.runs)


def _is_stored(store: Store, run: PlannedRun) -> bool:
    record = store.run(run.setup.name, run.spec.label)
    return record is not None and record.key == run.key and record.result is not None


def write_asked(plan: Plan) -> None:
    """Store what is asked for under a bench's name, beside what was asked before."""
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


def _measure_missing(plan: Plan, complete: set[str], workers: Processes, display: Display) -> bool:
    """Measure the strategies of the main setup that have a complete run and no speed yet; False if that failed.

    Only those at their defaults or as written: tuned settings, other fixed weights and a task alone are the same step.
    """
    bench = plan.store.bench()
    assert bench is not None
    stored = plan.store.speeds()
    there = [run for run in plan.runs if run.setup.name == bench.main_setup and role_of(run.spec.label) == "strategy"]
    keys = {run.spec.label: run.key for run in there}
    kept = [cost for cost in (stored.costs if stored else []) if keys.get(cost.label, cost.key) == cost.key]
    known = {cost.label for cost in kept}
    runs = [run for run in there if run.spec.label not in known and run.name in complete]
    if not runs:
        return True
    display.note(f"measuring the speed of {len(runs)} strategies, alone on the machine")
    origins = plan.registry.needed([run.spec.name for run in runs], runs[0].setup.name)
    job = jobs.SpeedJob(
        tuple(run.spec for run in runs),
        runs[0].settings,
        files_needed(plan.request, origins),
        stacks=tuple(sorted({1, len(plan.conditions.seeds)})),
        rounds=ROUNDS,
        turn_seconds=TURN_SECONDS,
        packages=origins,
    )
    try:
        timings = workers.call(jobs.measure, job, lambda text: display.note(f"  {text}"))
    except ProcessError as error:
        display.note(f"the speeds could not be measured: {error}")
        return False
    samples = plan.conditions.batch_size
    measured = [
        StepSpeed(
            key=keys[timing.label],
            label=timing.label,
            replicas=timing.replicas,
            samples_per_second=[samples * timing.replicas / step for step in timing.step_seconds],
            ratios=[step / base for step, base in zip(timing.step_seconds, timing.baseline_seconds, strict=True)],
            peak_memory=timing.peak_memory,
        )
        for timing in timings
    ]
    plan.store.write_speeds(SpeedRecord(threads=jobs.THREADS, costs=[*kept, *measured]))
    return True
