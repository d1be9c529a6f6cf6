"""Tunes every strategy under one budget: the same number of trials, on the same seeds, scored on validation only."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice

from scipy.stats import qmc

from mtlbench.bench import jobs
from mtlbench.bench.display import Display, Shown
from mtlbench.bench.places import place_of, side_by_side
from mtlbench.bench.planning import LR_FACTOR, Request, check, files_needed, settings_on, task_infos, tuning_key
from mtlbench.bench.processes import ProcessError
from mtlbench.contracts.metrics import named_score
from mtlbench.contracts.setup import Setup
from mtlbench.contracts.space import LogUniform
from mtlbench.errors import UserError
from mtlbench.plugins.registry import Registry
from mtlbench.plugins.spec_text import settings_text
from mtlbench.records.records import Spec, Trial, TuningRecord
from mtlbench.records.roles import FIRST_TUNING_SEED, REFERENCE, role_of
from mtlbench.records.store import Store

MOST_TRIALS = 10_000


@dataclass(frozen=True)
class Tuning:
    """One strategy on one setup: its trials as planned, and the record that they are stored in."""

    name: str
    setup: Setup
    record: TuningRecord
    trials: list[tuple[dict[str, object], float]]


@dataclass(frozen=True)
class TuningPlan:
    """What to tune, and where the trials are kept."""

    tunings: list[Tuning]
    registry: Registry
    store: Store
    request: Request


def tuning_seeds(count: int) -> tuple[int, ...]:
    """Seeds of trials, which a bench refuses."""
    return tuple(range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + count))


def plan_tuning(request: Request, budget: int) -> TuningPlan:
    """Lay out the trials of each strategy on each setup; `request.seeds` are those of the trials.

    Raises:
        UserError: anything about it cannot be done; nothing has been written then.
    """
    if not 1 <= budget <= MOST_TRIALS:
        raise UserError(f"--trials must be at least 1 and at most {MOST_TRIALS}, not {budget}")
    setups, conditions, registry = check(request)
    names = list(request.strategies) or list(registry.strategies)
    store = Store(request.out / request.name)

    def one(text: str, setup: Setup) -> Tuning:
        spec = registry.parse(text, setup)
        if role_of(spec.label) != "strategy":
            raise UserError(f"{spec.label} is a baseline, and is not tuned")
        settings = settings_on(setup, conditions)
        record = TuningRecord(
            key=tuning_key(spec, setup, settings, budget, registry),
            command=request.command,
            spec=spec,
            settings=settings,
            tasks=task_infos(setup),
            budget=budget,
            trials=[],
        )
        stored = store.tuning(setup.name, spec.label)
        if stored is not None and stored.key == record.key and not any(trial.error for trial in stored.trials):
            record = stored
        name = f"{setup.name} {spec.label}" if len(setups) > 1 else spec.label
        return Tuning(name, setup, record, trials_of(spec, registry, len(setup.tasks), conditions.lr, budget))

    tunings = [one(text, setup) for setup in setups for text in dict.fromkeys([REFERENCE, *names])]
    return TuningPlan(tunings, registry, store, request)


def trials_of(
    spec: Spec, registry: Registry, tasks: int, lr: float, budget: int
) -> list[tuple[dict[str, object], float]]:
    """Hyper-parameters and learning rate of each trial.

    The first is the strategy as given at the bench's learning rate. The others are points of a scrambled Halton
    sequence (the same for every strategy up to the number of dimensions), which covers the learning rate, within a
    factor of 10 of the bench's, and the spaces declared for the hyper-parameters that were not given.
    """
    spaces = {name: space for name, space in registry.spaces(spec.name).items() if name not in spec.hyper}
    rates = LogUniform(lr / LR_FACTOR, lr * LR_FACTOR)
    sizes = [space.dimensions(tasks) for space in spaces.values()]
    points = qmc.Halton(1 + sum(sizes), rng=0).random(budget - 1).tolist() if budget > 1 else []
    trials: list[tuple[dict[str, object], float]] = [(spec.hyper, lr)]
    for rate, *rest in points:
        hyper = dict(spec.hyper)
        coordinates = iter(rest)
        for (name, space), size in zip(spaces.items(), sizes, strict=True):
            hyper[name] = space.at(list(islice(coordinates, size)))
        trials.append((hyper, rates.at([rate])))
    return trials


def execute(plan: TuningPlan, display: Display) -> bool:
    """Carry out the trials that are missing; each is stored as it ends.

    Returns:
        Whether every strategy has its settings chosen.

    Raises:
        UserError: another process works under this name.
    """
    plan.store.prepare()
    with plan.store.locked():
        plan.store.drop_scratch()
        return _execute(plan, display)


def _execute(plan: TuningPlan, display: Display) -> bool:
    records = {tuning.name: tuning.record for tuning in plan.tunings}
    todo = [
        (tuning, number) for tuning in plan.tunings for number in range(len(tuning.record.trials), len(tuning.trials))
    ]
    kept = sum(len(tuning.record.trials) for tuning in plan.tunings)
    if kept:
        display.note(f"{kept} trials are already there")
    if todo:
        _try_all(plan, todo, records, display)
    for name, record in records.items():
        display.note(f"{name}: {_outcome(record)}")
    return all(record.chosen for record in records.values())


def _try_all(
    plan: TuningPlan, todo: Sequence[tuple[Tuning, int]], records: dict[str, TuningRecord], display: Display
) -> None:
    settings = todo[0][0].record.settings
    place, at_once = place_of(plan.request, settings.device)
    display.note(
        f"trying {len(todo)} settings with {len(settings.seeds)} seeds and {settings.epochs} epochs each, "
        f"{at_once}; only validation is looked at"
    )
    shown = {
        (tuning.name, number): Shown(
            display, f"{tuning.name}, trial {number + 1} of {len(tuning.trials)}", settings.epochs
        )
        for tuning, number in todo
    }
    ended: dict[str, dict[int, Trial]] = {}

    def start(tuning: Tuning, number: int) -> Future[Trial]:
        hyper, lr = tuning.trials[number]
        origins = plan.registry.needed([tuning.record.spec.name], tuning.setup.name)
        job = jobs.StackJob(
            tuning.record.spec.model_copy(update={"hyper": hyper}),
            tuning.record.settings.model_copy(update={"lr": lr}),
            tuning.record.settings.seeds,
            files_needed(plan.request, origins),
            packages=origins,
        )
        return place.submit(jobs.try_out, job, shown[tuning.name, number].report)

    def done(job: tuple[Tuning, int], future: Future[Trial]) -> None:
        tuning, number = job
        hyper, lr = tuning.trials[number]
        try:
            trial = future.result()
        except ProcessError as error:
            trial = Trial(hyper=hyper, lr=lr, error=str(error))
        there = ended.setdefault(tuning.name, {})
        there[number] = trial
        record, trials = records[tuning.name], list(records[tuning.name].trials)
        while len(trials) in there:  # stored in their order, so that what is missing is what comes after
            trials.append(there[len(trials)])
        records[tuning.name] = record.model_copy(update={"trials": trials})
        plan.store.write_tuning(records[tuning.name])
        shown[tuning.name, number].end(f"failed: {trial.error}" if trial.error else _score(record, trial))

    side_by_side(place, {start(*job): job for job in todo}, done)


def _score(record: TuningRecord, trial: Trial) -> str:
    assert trial.validation is not None
    scores = [row[0] for row in trial.validation.scores]
    return f"validation {record.tasks[0].name} {named_score(sum(scores) / len(scores), record.tasks[0].metric)}"


def _outcome(record: TuningRecord) -> str:
    chosen = record.chosen
    if chosen is None:
        failed = next((trial.error for trial in record.trials if trial.error), "trials are missing")
        return f"not tuned: {failed}"
    return f"{settings_text(chosen.lr, chosen.hyper)}; {_score(record, chosen)}"
