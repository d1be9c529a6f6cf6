"""Turns a request into a plan; requests that would fail later are refused."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtlbench.bench.jobs import StackJob
from mtlbench.contracts.setup import Setup
from mtlbench.engine import products
from mtlbench.engine.device import DEVICES, resolve_device
from mtlbench.errors import UserError
from mtlbench.plugins.discovery import contained
from mtlbench.plugins.needs import needs_of
from mtlbench.plugins.registry import Registry
from mtlbench.records.records import BenchRecord, Conditions, Settings, Spec, TaskInfo, TuningRecord, key_of
from mtlbench.records.roles import FRONT, REFERENCE, SINGLE, TUNED, role_of
from mtlbench.records.store import Store

FRONT_SHARES = tuple(i / 10 for i in range(11) if i != 5)  # 0.5 is equal weights, which are always included
LR_FACTOR = 10.0
COSTS = {"losses after the update": 1.4, "Gramian": 1.4, "Gramian of two more batches": 3.0, "Jacobian": 3.0}
"""Rough step times of strategies by what they need, relative to fixed weights; used only to order the runs."""
UNKNOWN_COST = max(COSTS.values())


@dataclass(frozen=True, kw_only=True)
class TrainingRequest:
    """A request to train `strategies` on `setups` under common conditions; no strategies means all of them.

    `run_timeout` (seconds) and `run_memory` (GiB) limit each process; `jobs` is the number of processes at a time;
    `cluster` is the address of a Dask scheduler.
    """

    setups: Sequence[str]
    strategies: Sequence[str]
    seeds: tuple[int, ...]
    epochs: int
    batch_size: int
    lr: float
    device: str
    plugins: tuple[Path, ...]
    products: str = "auto"
    precision: str = "float32"
    jobs: int | None = None
    run_timeout: float | None = None
    run_memory: float | None = None
    cluster: str | None = None


@dataclass(frozen=True, kw_only=True)
class Request(TrainingRequest):
    """A request for a bench or its tuning, with the place of its results and the command that asked for it."""

    name: str
    out: Path
    command: str
    tuned: bool = False
    front: bool = False


@dataclass(frozen=True)
class PlannedRun:
    """One strategy on one setup; `name` is unique within its plan.

    `digests` are those of the files of strategy and setup, and part of the `key`; `work` estimates the time that the
    run takes: samples per epoch, times multiply-adds per sample, times the strategy's relative step time. `warm_up` is
    the number of first epochs in which the strategy does not follow its own rule yet.
    """

    name: str
    setup: Setup
    spec: Spec
    settings: Settings
    digests: dict[str, str]
    key: str
    work: float
    warm_up: int


@dataclass(frozen=True)
class Plan:
    """A valid request: its runs, notes for the user, and the store of the results."""

    runs: list[PlannedRun]
    notes: list[str]
    conditions: Conditions
    registry: Registry
    store: Store
    request: Request


def plan(request: Request) -> Plan:
    """Plan a bench: each strategy on each setup, always with fixed weights and each task alone.

    Raises:
        UserError: the request is invalid; nothing has been written.
    """
    setups, conditions, registry = check(request)
    store = Store(request.out / request.name)
    before = store.bench()
    if before is not None:
        conditions = _with_products_of(before, conditions, request)
    if before is not None and (changed := before.conditions.differences(conditions)):
        raise UserError(
            f"{store.folder} was made with {'; '.join(changed)}: choose another --name, or delete that folder"
        )
    names = list(request.strategies) or list(registry.strategies)
    runs: list[PlannedRun] = []
    notes: list[str] = []
    for setup in setups:
        specs = [registry.parse(text, setup) for text in (REFERENCE, *names)]
        if request.tuned:
            tuned = _tuned(specs, setup, conditions, registry, store)
            labels = {spec.label for spec in tuned}
            if missing := dict.fromkeys(spec.label for spec in specs if f"{TUNED}:{spec.label}" not in labels):
                notes.append(f"not tuned on {setup.name}, so only run with their defaults: {', '.join(missing)}")
            specs += tuned
        if request.front:
            specs += [registry.parse(f"{FRONT}:{share}", setup) for share in FRONT_SHARES]
        specs += [registry.parse(f"{SINGLE}:{task}", setup) for task in setup.task_names]
        unique = {spec.label: spec for spec in specs}.values()
        runs += [planned(spec, setup, conditions, registry, several=len(setups) > 1) for spec in unique]
    notes += warm_up_notes(runs)
    return Plan(runs, notes, conditions, registry, store, request)


def check(request: TrainingRequest) -> tuple[list[Setup], Conditions, Registry]:
    """The setups, conditions and plug-ins of a request.

    Raises:
        UserError: one of them is invalid.
    """
    registry = Registry.load(request.plugins)
    setups = [registry.setup(name) for name in dict.fromkeys(request.setups)]
    if request.device not in DEVICES:
        raise UserError(f"--device must be one of {', '.join(DEVICES)}; found {request.device!r}")
    for option, value in {"--epochs": request.epochs, "--jobs": request.jobs}.items():
        if value is not None and value < 1:
            raise UserError(f"{option} must be at least 1; found {value}")
    for setup in setups:
        if not 1 <= request.batch_size <= setup.training_size:
            raise UserError(
                f"--batch-size must be between 1 and {setup.training_size}, the number of training samples of "
                f"{setup.name}; found {request.batch_size}"
            )
    positive = {"--lr": request.lr, "--run-timeout": request.run_timeout, "--run-memory": request.run_memory}
    for option, value in positive.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UserError(f"{option} must be finite and > 0; found {value}")
    same: dict[str, Any] = {name: getattr(request, name) for name in ("seeds", "epochs", "batch_size", "lr")}
    device = resolve_device(request.device)
    same["products"] = products.library(request.products, device)
    same["precision"] = products.precision(request.precision, device)
    return setups, Conditions(**same, device=device), registry


def _with_products_of(before: BenchRecord, conditions: Conditions, request: TrainingRequest) -> Conditions:
    """Conditions with the library of products that a bench began with, unless the request names one."""
    began_with = before.conditions.products
    if request.products != "auto" or began_with == conditions.products:
        return conditions
    return conditions.model_copy(update={"products": products.library(began_with, conditions.device)})


def planned(spec: Spec, setup: Setup, conditions: Conditions, registry: Registry, *, several: bool) -> PlannedRun:
    """A run with its settings and key; its name includes the setup if there are several."""
    settings = settings_on(setup, conditions)
    if spec.lr is not None:
        settings = settings.model_copy(update={"lr": spec.lr})
    digests = digests_of(registry, spec.name, setup.name)
    # The label is left out: a run is the same whatever it is called.
    key = key_of(name=spec.name, hyper=spec.hyper, only=spec.only, settings=settings, **digests)
    name = f"{setup.name} {spec.label}" if several else spec.label
    # Only mtlbench's own strategies run their code in this process; others count as the slowest.
    shipped = registry.shipped(spec.name)
    cost = COSTS.get(needs_of(registry.get(spec.name)), 1.0) if shipped else UNKNOWN_COST
    work = setup.passes * setup.training_size * setup.multiply_adds * cost
    with contained():
        warm_up = registry.build(spec, (1, len(setup.task_names))).warm_up
    return PlannedRun(name, setup, spec, settings, digests, key, work, warm_up)


def warm_up_notes(runs: Iterable[PlannedRun]) -> list[str]:
    """A note that names the strategies whose declared warm-up does not end within their runs."""
    warming = {
        run.spec.label: f"{run.spec.label} (warm-up of {run.warm_up} epochs)"
        for run in runs
        if run.warm_up >= run.settings.epochs
    }
    return [f"too few epochs to leave the warm-up: {', '.join(warming.values())}"] if warming else []


def digests_of(registry: Registry, strategy: str, setup: str) -> dict[str, str]:
    """Digests of the files of a strategy and a setup, by their names in a run's key."""
    of_setup = registry.setup_digest(setup)
    return {"source": registry.digest(strategy)} | ({} if of_setup is None else {"setup_source": of_setup})


def files_needed(plugins: Iterable[Path], origins: frozenset[str]) -> tuple[Path, ...]:
    """The plug-in files that are among the origins of strategies and setups."""
    return tuple(path for path in plugins if str(path) in origins)


def stack_job(
    registry: Registry,
    plugins: Iterable[Path],
    spec: Spec,
    settings: Settings,
    seeds: tuple[int, ...] | None = None,
    key: str = "",
    checkpoint: Path | None = None,
) -> StackJob:
    """The job that trains some seeds of a run (all by default), with just the plug-ins that it needs."""
    origins = registry.needed([spec.name], settings.setup)
    files = files_needed(plugins, origins)
    return StackJob(spec, settings, seeds or settings.seeds, files, key, checkpoint, origins)


def settings_on(setup: Setup, conditions: Conditions) -> Settings:
    """The conditions on one setup."""
    return Settings.model_validate(conditions.model_dump() | {"setup": setup.name})


def task_infos(setup: Setup) -> list[TaskInfo]:
    """The tasks of a setup as they are stored."""
    return [TaskInfo(name=task.name, metric=task.metric, better=task.better) for task in setup.tasks]


def tuning_key(spec: Spec, setup: Setup, settings: Settings, budget: int, registry: Registry) -> str:
    """Key of a strategy's tuning; it changes with the spaces, the budget and the files of strategy and setup."""
    spaces = {name: repr(space) for name, space in registry.spaces(spec.name).items()}
    digests = digests_of(registry, spec.name, setup.name)
    return key_of(spec=spec, settings=settings, budget=budget, spaces=spaces, lr_factor=LR_FACTOR, **digests)


def _tuned(specs: Sequence[Spec], setup: Setup, conditions: Conditions, registry: Registry, store: Store) -> list[Spec]:
    """The strategies among `specs` that have been tuned on a setup, with the chosen settings."""
    tuned: list[Spec] = []
    again = f"run `mtlbench tune --name {store.folder.name} --setup {setup.name}`"
    for spec in specs:
        record = store.tuning(setup.name, spec.label) if role_of(spec.label) == "strategy" else None
        if record is None or record.chosen is None:
            continue
        _check_tuning(record, setup, conditions, registry, again)
        hyper, lr = record.chosen.hyper, record.chosen.lr
        tuned.append(Spec(label=f"{TUNED}:{spec.label}", name=spec.name, hyper=hyper, lr=lr))
    if f"{TUNED}:{REFERENCE}" not in {spec.label for spec in tuned}:
        raise UserError(
            f"--tuned compares with tuned {REFERENCE}, which has not been tuned on {setup.name} in {store.folder}: "
            f"{again}"
        )
    return tuned


def _check_tuning(record: TuningRecord, setup: Setup, conditions: Conditions, registry: Registry, again: str) -> None:
    tuned_under = record.settings.model_copy(update=conditions.model_dump(exclude={"epochs", "batch_size"}))
    if changed := tuned_under.differences(conditions):
        raise UserError(f"{record.spec.label} was tuned with {'; '.join(changed)}: {again} again")
    if record.key != tuning_key(record.spec, setup, record.settings, record.budget, registry):
        either = f" or {setup.name}" if registry.setup_digest(setup.name) else ""
        raise UserError(f"{record.spec.label}{either} was edited since it was tuned: {again} again")


def bench_runs(before: BenchRecord | None, runs: Sequence[PlannedRun]) -> dict[str, list[str]]:
    """The labels per setup of a bench after adding these runs."""
    labels = dict(before.runs) if before else {}
    for run in runs:
        labels[run.setup.name] = list(dict.fromkeys([*labels.get(run.setup.name, []), run.spec.label]))
    return labels
