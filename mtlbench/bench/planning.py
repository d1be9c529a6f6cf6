"""What is asked for, checked against everything that could make it fail later."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtlbench.contracts.setup import Setup
from mtlbench.engine.device import DEVICES, resolve_device
from mtlbench.errors import UserError
from mtlbench.plugins.registry import Registry
from mtlbench.records.records import BenchRecord, Conditions, Settings, Spec, TaskInfo, TuningRecord, key_of
from mtlbench.records.roles import FRONT, REFERENCE, SINGLE, TUNED, role_of
from mtlbench.records.store import Store

FRONT_SHARES = tuple(i / 10 for i in range(11) if i != 5)  # one half is fixed equal weights, which always takes part
LR_FACTOR = 10.0


@dataclass(frozen=True)
class Request:
    """A bench, or its tuning, as asked for; `strategies` empty means all there are.

    `run_timeout` in seconds and `run_memory` in GiB are what each process may take; `cluster` is the address of a Dask
    scheduler.
    """

    name: str
    out: Path
    setups: Sequence[str]
    strategies: Sequence[str]
    seeds: tuple[int, ...]
    epochs: int
    batch_size: int
    lr: float
    device: str
    jobs: int | None
    plugins: tuple[Path, ...]
    command: str
    tuned: bool = False
    front: bool = False
    run_timeout: float | None = None
    run_memory: float | None = None
    cluster: str | None = None


@dataclass(frozen=True)
class PlannedRun:
    """One run: a strategy on a setup. `name` tells it from the others of its plan."""

    name: str
    setup: Setup
    spec: Spec
    settings: Settings
    key: str


@dataclass(frozen=True)
class Plan:
    """A request that has been found sound: what to run, what is worth saying of it, and where it is kept."""

    runs: list[PlannedRun]
    notes: list[str]
    conditions: Conditions
    registry: Registry
    store: Store
    request: Request


def plan(request: Request) -> Plan:
    """Lay out a bench: each strategy on each setup, with fixed weights and each task alone always among them.

    Raises:
        UserError: anything about it cannot be done; nothing has been written then.
    """
    chosen, conditions, registry = check(request)
    store = Store(request.out / request.name)
    before = store.bench()
    if before is not None and (changed := before.conditions.differences(conditions)):
        raise UserError(
            f"{store.folder} was made with {'; '.join(changed)}: take another --name, "
            f"or delete that folder to start it anew"
        )
    names = list(request.strategies) or list(registry.strategies)
    runs: list[PlannedRun] = []
    notes: list[str] = []
    for setup in chosen:
        specs = [registry.parse(text, setup) for text in (REFERENCE, *names)]
        if request.tuned:
            tuned = _tuned(specs, setup, conditions, registry, store)
            there = {spec.label for spec in tuned}
            left = dict.fromkeys(spec.label for spec in specs if tuned_label(spec.label) not in there)
            if left:
                notes.append(f"not tuned on {setup.name}, and so at their defaults only: {', '.join(left)}")
            specs += tuned
        if request.front:
            specs += [registry.parse(f"{FRONT}:{share}", setup) for share in FRONT_SHARES]
        specs += [registry.parse(f"{SINGLE}:{task}", setup) for task in setup.task_names]
        unique = {spec.label: spec for spec in specs}.values()
        runs += [planned(spec, setup, conditions, registry, several=len(chosen) > 1) for spec in unique]
    return Plan(runs, notes, conditions, registry, store, request)


def check(request: Request) -> tuple[list[Setup], Conditions, Registry]:
    """The setups, conditions and strategies that a request names.

    Raises:
        UserError: one of them cannot be.
    """
    registry = Registry.load(request.plugins)
    chosen = [registry.setup(name) for name in dict.fromkeys(request.setups)]
    if request.device not in DEVICES:
        raise UserError(f"no device is called {request.device!r}; there is {', '.join(DEVICES)}")
    if request.epochs < 1:
        raise UserError(f"--epochs must be at least 1, not {request.epochs}")
    for setup in chosen:
        if not 1 <= request.batch_size <= setup.training_size:
            raise UserError(
                f"--batch-size must be between 1 and {setup.training_size}, the training samples of "
                f"{setup.name}, not {request.batch_size}"
            )
    if not (math.isfinite(request.lr) and request.lr > 0):
        raise UserError(f"--lr must be finite and > 0, not {request.lr}")
    if request.jobs is not None and request.jobs < 1:
        raise UserError(f"--jobs must be at least 1, not {request.jobs}")
    for option, value in (("--run-timeout", request.run_timeout), ("--run-memory", request.run_memory)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UserError(f"{option} must be finite and > 0, not {value}")
    conditions = Conditions(
        seeds=request.seeds,
        epochs=request.epochs,
        batch_size=request.batch_size,
        lr=request.lr,
        device=resolve_device(request.device),
    )
    return chosen, conditions, registry


def planned(spec: Spec, setup: Setup, conditions: Conditions, registry: Registry, *, several: bool) -> PlannedRun:
    """A run with its settings and key; its name has the setup if there are several."""
    settings = settings_on(setup, conditions)
    if spec.lr is not None:
        settings = settings.model_copy(update={"lr": spec.lr})
    # By its name and values alone, so that a run is the same whatever it is called.
    key = key_of(
        name=spec.name,
        hyper=spec.hyper,
        only=spec.only,
        settings=settings,
        source=registry.digest(spec.name),
        **_of_file(setup, registry),
    )
    return PlannedRun(f"{setup.name} {spec.label}" if several else spec.label, setup, spec, settings, key)


def _of_file(setup: Setup, registry: Registry) -> dict[str, str]:
    """What a setup that comes from a file of its own adds to a key."""
    digest = registry.setup_digest(setup.name)
    return {} if digest is None else {"setup_source": digest}


def files_needed(request: Request, origins: Collection[str]) -> tuple[Path, ...]:
    """Those plugin files of a request that are among the origins of strategies and setups."""
    return tuple(path for path in request.plugins if str(path) in origins)


def settings_on(setup: Setup, conditions: Conditions) -> Settings:
    """The conditions on one setup."""
    return Settings.model_validate(conditions.model_dump() | {"setup": setup.name})


def task_infos(setup: Setup) -> list[TaskInfo]:
    """The tasks of a setup as they are stored."""
    return [TaskInfo(name=task.name, metric=task.metric, better=task.better) for task in setup.tasks]


def tuning_key(spec: Spec, setup: Setup, settings: Settings, budget: int, registry: Registry) -> str:
    """Identity of a strategy's tuning: another space, budget or file of the strategy or setup makes it another."""
    spaces = {name: repr(space) for name, space in registry.spaces(spec.name).items()}
    source = registry.digest(spec.name)
    return key_of(
        spec=spec,
        settings=settings,
        budget=budget,
        spaces=spaces,
        lr_factor=LR_FACTOR,
        source=source,
        **_of_file(setup, registry),
    )


def tuned_label(label: str) -> str:
    """How a strategy with tuned settings is written."""
    return f"{TUNED}:{label}"


def _tuned(specs: Sequence[Spec], setup: Setup, conditions: Conditions, registry: Registry, store: Store) -> list[Spec]:
    """The strategies among `specs` that have been tuned on a setup, with the settings that were chosen.

    Raises:
        UserError: none has been, or fixed weights have not; or under other conditions; or a file was edited since.
    """
    found: list[Spec] = []
    for spec in specs:
        record = store.tuning(setup.name, spec.label) if role_of(spec.label) == "strategy" else None
        if record is None or record.chosen is None:
            continue
        _check_tuning(record, setup, conditions, registry, store)
        lr = record.chosen.lr
        found.append(Spec(label=tuned_label(spec.label), name=spec.name, hyper=record.chosen.hyper, lr=lr))
    if tuned_label(REFERENCE) not in {spec.label for spec in found}:
        raise UserError(
            f"{REFERENCE}, which tuned strategies are compared with, has not been tuned on {setup.name} in "
            f"{store.folder}: run `mtlbench tune --name {store.folder.name} --setup {setup.name}`"
        )
    return found


def _check_tuning(record: TuningRecord, setup: Setup, conditions: Conditions, registry: Registry, store: Store) -> None:
    again = f"run `mtlbench tune --name {store.folder.name} --setup {record.settings.setup}` again"
    asked = record.settings.model_copy(update=conditions.model_dump(exclude={"epochs", "batch_size"}))
    if changed := asked.differences(conditions):
        raise UserError(f"{record.spec.label} was tuned with {'; '.join(changed)}: {again}")
    if record.key != tuning_key(record.spec, setup, record.settings, record.budget, registry):
        either = f" or {setup.name}" if registry.setup_digest(setup.name) else ""
        raise UserError(f"{record.spec.label}{either} was edited since it was tuned: {again}")


def bench_runs(before: BenchRecord | None, runs: Sequence[PlannedRun]) -> dict[str, list[str]]:
    """The labels per setup of a bench once these runs are part of it."""
    labels = {name: list(there) for name, there in before.runs.items()} if before else {}
    for run in runs:
        there = labels.setdefault(run.setup.name, [])
        if run.spec.label not in there:
            there.append(run.spec.label)
    return labels
