"""Plans the runs of a bench, executes what is missing, measures the cost, and says what came of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from mtlbench import environment, jobs, setups, tables
from mtlbench.errors import UserError
from mtlbench.harness import DEVICES, Progress, resolve_device
from mtlbench.records import (
    REFERENCE,
    BenchRecord,
    Cost,
    CostRecord,
    Result,
    RunRecord,
    Settings,
    Spec,
    TaskInfo,
    run_key,
)
from mtlbench.registry import SINGLE, Registry
from mtlbench.setups import Setup
from mtlbench.store import Store
from mtlbench.workers import WorkerError, Workers

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


@dataclass(frozen=True)
class Request:
    """A bench as asked for; `strategies` empty means all there are."""

    name: str
    out: Path
    setup: str
    strategies: Sequence[str]
    seeds: tuple[int, ...]
    epochs: int
    batch_size: int
    lr: float
    device: str
    jobs: int | None
    plugins: tuple[Path, ...]
    command: str


@dataclass(frozen=True)
class Plan:
    """A request that has been found sound: what to run, under which conditions, and where it is kept."""

    specs: list[Spec]
    settings: Settings
    setup: Setup
    registry: Registry
    store: Store
    request: Request

    def key(self, spec: Spec) -> str:
        """Identity of a run of this bench."""
        return run_key(spec, self.settings, self.registry.digest(spec.name))


def plan(request: Request) -> Plan:
    """Check a request against everything that could make it fail later.

    Raises:
        UserError: anything about it cannot be done; nothing has been written then.
    """
    setup = setups.find(request.setup)
    if request.device not in DEVICES:
        raise UserError(f"no device is called {request.device!r}; there is {', '.join(DEVICES)}")
    if request.epochs < 1:
        raise UserError(f"--epochs must be at least 1, not {request.epochs}")
    if not 1 <= request.batch_size <= setup.training_size:
        raise UserError(
            f"--batch-size must be between 1 and {setup.training_size}, the training samples of "
            f"{setup.name}, not {request.batch_size}"
        )
    if not (math.isfinite(request.lr) and request.lr > 0):
        raise UserError(f"--lr must be finite and > 0, not {request.lr}")
    if request.jobs is not None and request.jobs < 1:
        raise UserError(f"--jobs must be at least 1, not {request.jobs}")
    registry = Registry.load(request.plugins)
    names = list(request.strategies) or list(registry.strategies)
    labels = [REFERENCE, *names, *(f"{SINGLE}:{task}" for task in setup.task_names)]
    specs = {spec.label: spec for spec in (registry.parse(text, setup) for text in labels)}
    settings = Settings(
        setup=setup.name,
        seeds=request.seeds,
        epochs=request.epochs,
        batch_size=request.batch_size,
        lr=request.lr,
        device=resolve_device(request.device),
    )
    store = Store(request.out / request.name)
    before = store.bench()
    if before is not None and (changed := before.settings.differences(settings)):
        raise UserError(
            f"{store.folder} was made with {'; '.join(changed)}: take another --name, "
            f"or delete that folder to start it anew"
        )
    return Plan(list(specs.values()), settings, setup, registry, store, request)


def execute(plan: Plan, display: Display) -> bool:
    """Compute the runs that are missing and the speeds that have not been measured.

    Each run is stored as soon as it is complete. A run that fails is stored with its error, and is tried
    again by the next call.

    Returns:
        Whether every strategy has a complete run and a measured speed.
    """
    plan.store.prepare()
    missing = [spec for spec in plan.specs if not _is_complete(plan, spec)]
    kept = len(plan.specs) - len(missing)
    if kept:
        display.note(f"{kept} of {len(plan.specs)} runs are already there")
    _write_bench(plan)
    # torch.optim imports torch._dynamo when it is first used: done once here, not for seconds in each worker.
    workers = Workers(["mtlbench.jobs", "torch._dynamo"])
    try:
        if missing:
            _train_all(plan, missing, workers, display)
        measured = _measure_missing(plan, workers, display)
    finally:
        workers.stop()
    for text in tables.identical_runs(plan.store.runs()):
        display.note(text)
    return measured and all(_is_complete(plan, spec) for spec in plan.specs)


def _is_complete(plan: Plan, spec: Spec) -> bool:
    run = plan.store.run(spec.label)
    return run is not None and run.key == plan.key(spec) and run.result is not None


def _write_bench(plan: Plan) -> None:
    before = plan.store.bench()
    labels = [spec.label for spec in plan.specs]
    if before is not None:
        labels = [*before.strategies, *(label for label in labels if label not in before.strategies)]
        plan.store.write_bench(before.model_copy(update={"strategies": labels}))
        return
    plan.store.write_bench(
        BenchRecord(
            name=plan.request.name,
            command=plan.request.command,
            created=environment.now(),
            settings=plan.settings,
            strategies=labels,
            environment=environment.describe(plan.settings.device),
        )
    )


def _train_all(plan: Plan, specs: Sequence[Spec], workers: Workers, display: Display) -> None:
    at_once = plan.request.jobs or (environment.cores() if plan.settings.device == "cpu" else 1)
    at_once = min(at_once, len(specs))
    display.note(
        f"training {len(specs)} runs of {len(plan.settings.seeds)} seeds and {plan.settings.epochs} epochs "
        f"on {plan.settings.device}, {at_once} at a time"
    )
    keys = {spec.label: plan.key(spec) for spec in specs}
    pool = ThreadPoolExecutor(at_once)
    try:
        futures: dict[Future[Result], Spec] = {
            pool.submit(_train_one, plan, spec, workers, display): spec for spec in specs
        }
        for future in as_completed(futures):
            spec = futures[future]
            record = _record(plan, spec, keys[spec.label], future)
            plan.store.write_run(record)
            display.run_ended(spec.label, record.outcome)
    except BaseException:
        workers.stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _train_one(plan: Plan, spec: Spec, workers: Workers, display: Display) -> Result:
    display.run_started(spec.label, plan.settings.epochs)
    job = jobs.RunJob(spec, plan.settings, plan.request.plugins)
    return workers.call(jobs.train, job, partial(display.run_moved, spec.label))


def _record(plan: Plan, spec: Spec, key: str, future: Future[Result]) -> RunRecord:
    source = plan.registry.source(spec.name)
    make: Callable[..., RunRecord] = partial(
        RunRecord,
        key=key,
        spec=spec,
        settings=plan.settings,
        tasks=[TaskInfo(name=task.name, metric=task.metric) for task in plan.setup.tasks],
        source_file=source.name,
        source=source.read_text(encoding="utf-8", errors="replace"),
    )
    if plan.key(spec) != key:
        return make(error="its file was edited while it was trained: run the bench again")
    try:
        return make(result=future.result())
    except WorkerError as error:
        return make(error=str(error), traceback=error.traceback)


def _measure_missing(plan: Plan, workers: Workers, display: Display) -> bool:
    """Measure what has a complete run and no speed yet; False if that failed.

    A task trained alone is fixed weights with a zero among them: its step is not measured a second time.
    """
    stored = plan.store.costs()
    known = stored.costs if stored else []
    keys = {spec.label: plan.key(spec) for spec in plan.specs}
    kept = [cost for cost in known if keys.get(cost.label, cost.key) == cost.key]
    there = {cost.label for cost in kept}
    specs = [spec for spec in plan.specs if not spec.only and spec.label not in there and _is_complete(plan, spec)]
    if not specs:
        return True
    display.note(f"measuring the speed of {len(specs)} strategies, alone on the machine")
    job = jobs.CostJob(
        tuple(specs),
        plan.settings,
        plan.request.plugins,
        stacks=tuple(sorted({1, len(plan.settings.seeds)})),
        rounds=ROUNDS,
        turn_seconds=TURN_SECONDS,
    )
    try:
        timings = workers.call(jobs.measure, job, lambda text: display.note(f"  {text}"))
    except WorkerError as error:
        display.note(f"the speeds could not be measured: {error}")
        return False
    samples = plan.settings.batch_size
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
