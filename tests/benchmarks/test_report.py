"""How long the report of a large bench takes: 30 strategies, 16 seeds, 8 setups."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from pytest_benchmark.fixture import BenchmarkFixture

from mtlbench.records.history import Trajectory
from mtlbench.report.writing import write_report
from tests.benchmarks.ratios import Ratios
from tests.helpers.stored_benches import cost, make_store, stored

STRATEGIES, SETUPS, SEEDS, POINTS = 30, 8, tuple(range(16)), 30


def test_report_of_30_strategies_16_seeds_8_setups(benchmark: BenchmarkFixture, ratios: Ratios, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = ["fixed", *(f"method-{i}" for i in range(STRATEGIES - 1)), "single:digit", "single:above_five"]
    runs = []
    for setup in (f"setup-{i}" for i in range(SETUPS)):
        for name in names:
            scores = (np.array([0.97, 0.02]) + rng.normal(0, 0.002, (len(SEEDS), 2))).tolist()
            only = name.partition(":")[2] or None
            run = stored(name, 0.97, only, setup=setup, scores=scores, seeds=SEEDS)
            assert run.result is not None
            walk = np.exp(-np.linspace(0, 3, POINTS))[:, None, None] + rng.uniform(0, 0.1, (POINTS, len(SEEDS), 2))
            ends = np.linspace(0, 2, POINTS + 1)[1:].round(4).tolist()
            path = Trajectory(ends, walk.round(4).tolist(), (2 * walk).round(4).tolist(), walk.round(4).tolist(), None)
            result = replace(run.result, trajectory=path)
            runs.append(run.model_copy(update={"result": result}))
    costs = [cost(name, replicas, 1.2) for name in names[:STRATEGIES] for replicas in (1, 16)]
    store = make_store(tmp_path, runs, costs)
    made = benchmark.pedantic(write_report, (store,), rounds=1)
    assert benchmark.stats is not None
    seconds = benchmark.stats.stats.median
    ratios.notes.append(f"report of {STRATEGIES} strategies, {len(SEEDS)} seeds, {SETUPS} setups: {seconds:.1f} s")
    assert (made.folder / "report.html").stat().st_size < 4_000_000
