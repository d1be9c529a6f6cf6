"""Made-up benches, stored as if they had been run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mtlbench.records.history import Evaluation, Result, Trajectory
from mtlbench.records.records import (
    BenchRecord,
    Conditions,
    Environment,
    RunRecord,
    Settings,
    Spec,
    SpeedRecord,
    StepSpeed,
    TaskInfo,
)
from mtlbench.records.store import Store

SEEDS = tuple(range(12))
CONDITIONS = Conditions(seeds=SEEDS, epochs=2, batch_size=64, lr=1e-3, device="cpu")
TASKS = [
    TaskInfo(name="digit", metric="accuracy", better="higher"),
    TaskInfo(name="above_five", metric="error", better="lower"),
]
ENVIRONMENT = Environment(
    machine="a machine", cores=2, memory_gib=4, system="Linux", versions={"torch": "2"}, commit=None
)
SOURCE = '''
@register("{name}")
class Made(Strategy):
    """Weights made by hand.

    Source: A. Author & B. Author, "Weights", ICML 2020.
    """

    heads = "own"

    def __init__(self, shape, *, alpha: float = 1.5):
        ...
'''


def settings(setup: str = "mnist", seeds: Sequence[int] = SEEDS) -> Settings:
    """The settings of `CONDITIONS` on a setup."""
    return Settings.model_validate(CONDITIONS.model_dump() | {"setup": setup, "seeds": tuple(seeds)})


def stored(
    label: str,
    accuracy: float | None,
    only: str | None = None,
    error: str | None = None,
    *,
    setup: str = "mnist",
    scores: Sequence[Sequence[float]] | None = None,
    seeds: Sequence[int] = SEEDS,
) -> RunRecord:
    """A run whose seed k scores `accuracy + k / 1000` on the main task; a failed run if `accuracy` is None."""
    result = None
    if accuracy is not None:
        values = [list(row) for row in scores or [[accuracy + k / 1000, 0.05 - k / 1000] for k in seeds]]
        losses = [[1 - accuracy + k / 100, 0.2] for k in range(len(values))]
        evaluation = Evaluation(losses, values)
        path = Trajectory([1.0, 2.0], [losses, losses], [losses, losses], None, None)
        result = Result([evaluation, evaluation], path, [None] * len(values), 1.0, evaluation)
    return RunRecord(
        key=label,
        spec=Spec(label=label, name=label, hyper={}, only=only),
        settings=settings(setup, seeds),
        tasks=TASKS,
        source_file="made.py",
        source=SOURCE.format(name=label),
        stacks=[list(seeds)],
        result=result,
        error=error,
    )


def cost(label: str, replicas: int, ratio: float) -> StepSpeed:
    """Measured speeds whose step takes `ratio` times as long as with fixed weights."""
    ratios = [ratio - 0.01, ratio - 0.02, ratio, ratio, ratio + 0.02, ratio + 0.01]
    return StepSpeed(
        key=label,
        label=label,
        replicas=replicas,
        samples_per_second=[10_000 / value for value in ratios],
        ratios=ratios,
        peak_memory=None,
    )


def make_store(
    folder: Path, runs: Sequence[RunRecord], costs: Sequence[StepSpeed] = (), name: str = "made", **changed: object
) -> Store:
    """Store a bench of these runs; `changed` replaces fields of its record."""
    store = Store(folder / name)
    labels: dict[str, list[str]] = {}
    for run in runs:
        labels.setdefault(run.settings.setup, []).append(run.spec.label)
    record = BenchRecord(
        name=name,
        commands=[f"mtlbench bench --name {name}"],
        created="2026-01-01T00:00:00+00:00",
        conditions=CONDITIONS,
        runs=labels or {"mnist": []},
        environment=ENVIRONMENT,
    )
    store.write_bench(record.model_copy(update=changed))
    for run in runs:
        store.write_run(run)
    if costs:
        store.write_speeds(SpeedRecord(threads=1, costs=list(costs)))
    return store


def summary_of(rows: Sequence[Mapping[str, str]]) -> dict[str, Mapping[str, str]]:
    """The rows of a `summary.csv` by strategy."""
    return {row["strategy"]: row for row in rows}
