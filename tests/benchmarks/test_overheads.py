"""What a run's time goes to beside its training steps."""

from __future__ import annotations

import statistics
import time
from functools import partial
from pathlib import Path

import torch
from pytest_benchmark.fixture import BenchmarkFixture

from mtlbench.engine.trainer import Trainer
from mtlbench.plugins.registry import Registry
from mtlbench.records import checkpoint
from mtlbench.setups import MNIST
from tests.benchmarks.conftest import ROUNDS
from tests.benchmarks.loops import BATCH, LR, training_split
from tests.benchmarks.ratios import OVERHEADS, Ratios, Row
from tests.helpers.stored_benches import stored

REPLICAS, STEPS = 12, 20
CHECKPOINT_COST = 1.03


def test_an_epoch_with_its_checkpoint(
    benchmark: BenchmarkFixture, ratios: Ratios, registry: Registry, tmp_path: Path
) -> None:
    """Steps and writes take turns; an epoch's steps are those of a turn as many times as they fit into it."""
    build = partial(registry.build, registry.parse("fixed", MNIST))
    trainer = Trainer(
        MNIST, build, range(REPLICAS), training_split(), batch_size=BATCH, lr=LR, device=torch.device("cpu")
    )
    history = stored("fixed", 0.97).result
    assert history is not None
    epochs: list[float] = []

    def train() -> None:
        trainer.start_epoch(0)
        begun = time.perf_counter()
        for _ in range(STEPS):
            trainer.step()
        epochs.append((time.perf_counter() - begun) * trainer.steps_per_epoch / STEPS)

    path = tmp_path / "state.safetensors"
    benchmark.pedantic(
        partial(checkpoint.write, path, "key", trainer.state, history), setup=train, rounds=ROUNDS, warmup_rounds=1
    )
    assert benchmark.stats is not None
    writes = benchmark.stats.stats.data
    costs = [1 + write / epoch for write, epoch in zip(writes, epochs[-ROUNDS:], strict=True)]
    rate = REPLICAS * BATCH * trainer.steps_per_epoch / statistics.median(epochs[-ROUNDS:])
    name = f"fixed, K = {REPLICAS}, an epoch of mnist with its checkpoint over one without"
    row = Row(OVERHEADS, name, benchmark.fullname, (rate / statistics.median(costs), rate), costs, CHECKPOINT_COST)
    ratios.rows.append(row)
    benchmark.extra_info |= row.to_store()
    assert not row.misses
