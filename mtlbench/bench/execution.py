"""Carries out a plan: trains the missing runs and measures the missing speeds."""

from __future__ import annotations

from mtlbench.bench import jobs, train_runs
from mtlbench.bench.display import Display
from mtlbench.bench.places import Here, Place
from mtlbench.bench.planning import Plan, PlannedRun, TrainingRequest, bench_runs, files_needed
from mtlbench.bench.processes import Limits, ProcessError, Processes
from mtlbench.records import environment
from mtlbench.records.records import BenchRecord, SpeedRecord, identical_runs
from mtlbench.records.roles import role_of
from mtlbench.records.store import Store

ROUNDS, TURN_SECONDS = 9, 0.05  # of the speed measurement, while all cores but one are idle


def execute(plan: Plan, display: Display) -> bool:
    """Train the missing runs and measure the missing speeds.

    Each run is stored as soon as it is complete. An interrupted run resumes from the last epoch of each of its stacks.
    A failed run is stored with its error and tried again by the next call.

    Returns:
        True if every strategy has a complete run and a measured speed.

    Raises:
        UserError: another process works on this bench.
    """
    with plan.store.locked(), processes_for(plan.request) as processes:
        complete = {run.name for run in plan.runs if _is_stored(plan.store, run)}
        if complete:
            display.note(f"{len(complete)} of {len(plan.runs)} runs are already stored")
        for text in plan.notes:
            display.note(text)
        write_request(plan)
        if len(complete) < len(plan.runs):
            place = place_of(plan.request, plan.conditions.device, processes)
            complete |= train_runs.train_missing(plan, complete, place, display)
        measured = _measure_missing(plan, complete, processes, display)
    for setup in dict.fromkeys(run.setup.name for run in plan.runs):
        for text in identical_runs(plan.store.runs(setup)):
            display.note(text)
    return measured and len(complete) == len(plan.runs)


def processes_for(request: TrainingRequest) -> Processes:
    """The pool of processes that all jobs of a request share, with its limits."""
    memory = None if request.run_memory is None else round(request.run_memory * 2**30)
    return Processes(jobs.PRELOAD, Limits(request.run_timeout, memory))


def place_of(request: TrainingRequest, device: str, processes: Processes) -> Place:
    """Where the jobs of a request are carried out.

    On this machine, one job per core at a time on cpu and one on any other device, unless `--jobs` is given.

    Raises:
        UserError: the cluster cannot be reached or cannot do it.
    """
    if request.cluster is not None:
        from mtlbench.bench.dask_cluster import Cluster  # an optional extra

        return Cluster(request.cluster, device, processes.limits)
    return Here(processes, request.jobs or (environment.cores() if device == "cpu" else 1))


def write_request(plan: Plan) -> None:
    """Add the requested runs and the command to the stored record of the bench."""
    before = plan.store.bench()
    runs, commands = bench_runs(before, plan.runs), [*(before.commands if before else []), plan.request.command]
    asked = before or BenchRecord(
        name=plan.request.name,
        commands=commands,
        created=environment.now(),
        conditions=plan.conditions,
        runs=runs,
        environment=environment.describe(plan.conditions.device),
    )
    plan.store.write_bench(asked.model_copy(update={"runs": runs, "commands": list(dict.fromkeys(commands))}))


def _is_stored(store: Store, run: PlannedRun) -> bool:
    record = store.run(run.setup.name, run.spec.label)
    return record is not None and record.key == run.key and record.result is not None


def _measure_missing(plan: Plan, complete: set[str], processes: Processes, display: Display) -> bool:
    """Measure the strategies of the main setup that have a complete run and no speed yet; False if that failed.

    Tuned settings, other fixed weights and single tasks are left out: their step is the same.
    """
    main_setup = plan.store.require_bench().main_setup
    stored = plan.store.speeds()
    strategies = [run for run in plan.runs if run.setup.name == main_setup and role_of(run.spec.label) == "strategy"]
    keys = {run.spec.label: run.key for run in strategies}
    kept = [speed for speed in (stored.costs if stored else []) if keys.get(speed.label, speed.key) == speed.key]
    known = {speed.label for speed in kept}
    runs = [run for run in strategies if run.spec.label not in known and run.name in complete]
    if not runs:
        return True
    display.note(f"measuring the speed of {len(runs)} strategies, alone on the machine")
    origins = plan.registry.needed([run.spec.name for run in runs], main_setup)
    job = jobs.SpeedJob(
        {run.key: run.spec for run in runs},
        runs[0].settings,
        files_needed(plan.request.plugins, origins),
        stacks=tuple(sorted({1, len(plan.conditions.seeds)})),
        rounds=ROUNDS,
        turn_seconds=TURN_SECONDS,
        packages=origins,
    )
    try:
        measured = processes.call(jobs.measure, job, lambda text: display.note(f"  {text}"))
    except ProcessError as error:
        display.note(f"the speeds could not be measured: {error}")
        return False
    plan.store.write_speeds(SpeedRecord(threads=jobs.THREADS, costs=[*kept, *measured]))
    return True
