"""Tunes every strategy with one budget: the same number of trials on the same seeds, scored on validation data only."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from scipy.stats import qmc

from mtlbench.bench import jobs
from mtlbench.bench.display import Display, ShownJob
from mtlbench.bench.execution import place_of, processes_for
from mtlbench.bench.places import carry_out_all
from mtlbench.bench.planning import LR_FACTOR, Request, check, settings_on, stack_job, task_infos, tuning_key
from mtlbench.bench.processes import ProcessError, Processes
from mtlbench.contracts.metrics import named_score
from mtlbench.contracts.setup import Setup
from mtlbench.contracts.space import LogUniform
from mtlbench.errors import UserError
from mtlbench.plugins.registry import Registry
from mtlbench.plugins.spec_text import settings_text
from mtlbench.records.records import Spec, Trial, TuningRecord
from mtlbench.records.roles import REFERENCE, role_of
from mtlbench.records.store import Store

MOST_TRIALS = 10_000


@dataclass(frozen=True)
class Tuning:
    """One strategy on one setup: its planned trials as hyper-parameters and learning rate, and the stored record."""

    name: str
    setup: Setup
    record: TuningRecord
    trials: list[tuple[dict[str, object], float]]


@dataclass(frozen=True)
class TuningPlan:
    """The planned tunings, and the store of their trials."""

    tunings: list[Tuning]
    registry: Registry
    store: Store
    request: Request


def plan_tuning(request: Request, budget: int) -> TuningPlan:
    """Plan the trials of each strategy on each setup; `request.seeds` are those of the trials.

    Raises:
        UserError: the request is invalid; nothing has been written.
    """
    if not 1 <= budget <= MOST_TRIALS:
        raise UserError(f"--trials must be at least 1 and at most {MOST_TRIALS}; found {budget}")
    setups, conditions, registry = check(request)
    names = list(request.strategies) or list(registry.strategies)
    store = Store(request.out / request.name)

    def plan_one(text: str, setup: Setup) -> Tuning:
        spec = registry.parse(text, setup)
        if role_of(spec.label) != "strategy":
            raise UserError(f"{spec.label} is a baseline, which cannot be tuned")
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

    tunings = [plan_one(text, setup) for setup in setups for text in dict.fromkeys([REFERENCE, *names])]
    return TuningPlan(tunings, registry, store, request)


def trials_of(
    spec: Spec, registry: Registry, tasks: int, lr: float, budget: int
) -> list[tuple[dict[str, object], float]]:
    """Hyper-parameters and learning rate of each trial.

    The first trial is the strategy as given, with the bench's learning rate. The others are points of a scrambled
    Halton sequence, which is the same for every strategy up to the number of dimensions. They cover the learning rate,
    within a factor of 10 of the bench's, and the declared spaces of the hyper-parameters that were not given.
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
    """Carry out the missing trials and store each as it ends.

    Returns:
        True if settings were chosen for every strategy.

    Raises:
        UserError: another process works under this name.
    """
    with plan.store.locked(), processes_for(plan.request) as processes:
        if stored := sum(len(tuning.record.trials) for tuning in plan.tunings):
            display.note(f"{stored} trials are already stored")
        records = _try_missing(plan, processes, display)
        for name, record in records.items():
            display.note(f"{name}: {_outcome(record)}")
        return all(record.chosen for record in records.values())


def _try_missing(plan: TuningPlan, processes: Processes, display: Display) -> dict[str, TuningRecord]:
    """The records of all tunings, by name, after carrying out the missing trials."""
    tunings = {tuning.name: tuning for tuning in plan.tunings}
    records = {name: tuning.record for name, tuning in tunings.items()}
    settings = plan.tunings[0].record.settings
    ended: dict[str, dict[int, Trial]] = {name: {} for name in tunings}
    work = {
        (name, number): (
            stack_job(
                plan.registry,
                plan.request.plugins,
                tuning.record.spec.model_copy(update={"hyper": hyper}),
                tuning.record.settings.model_copy(update={"lr": lr}),
            ),
            ShownJob(display, f"{name}, trial {number + 1} of {len(tuning.trials)}", settings.epochs),
        )
        for name, tuning in tunings.items()
        for number, (hyper, lr) in enumerate(tuning.trials)
        if number >= len(tuning.record.trials)
    }

    def done(job: tuple[str, int], outcome: Trial | ProcessError) -> str:
        name, number = job
        if isinstance(outcome, ProcessError):
            hyper, lr = tunings[name].trials[number]
            outcome = Trial(hyper=hyper, lr=lr, error=str(outcome))
        ended[name][number] = outcome
        trials = list(records[name].trials)
        while len(trials) in ended[name]:  # stored in order, so that the missing trials are always the last ones
            trials.append(ended[name][len(trials)])
        records[name] = records[name].model_copy(update={"trials": trials})
        plan.store.write_tuning(records[name])
        return f"failed: {outcome.error}" if outcome.error else _score(records[name], outcome)

    if work:
        place = place_of(plan.request, settings.device, processes)
        display.note(
            f"trying {len(work)} settings with {len(settings.seeds)} seeds and {settings.epochs} epochs each, "
            f"{place.size}; only validation data is used"
        )
        carry_out_all(place, jobs.try_out, work, done)
    return records


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
