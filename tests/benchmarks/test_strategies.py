"""What each strategy adds to the step of fixed weights."""

from __future__ import annotations

import pytest

from mtlbench.cli.listing import entries
from mtlbench.plugins.registry import Registry
from tests.benchmarks.conftest import InTurns
from tests.benchmarks.loops import stack
from tests.benchmarks.ratios import EIGHT_TASKS, SINGLE, STACKED

NEEDS = {entry.name: entry.needs for entry in entries(Registry.load()) if entry.name != "fixed"}
# What more than a Gramian costs is measured and held to nothing: forward passes and Jacobians have their price.
BOUNDS = {"losses": 1.05, "epoch means of losses": 1.05, "Gramian (last layer)": 1.35, "Gramian": 1.35}
GRAMIAN = [name for name, needs in NEEDS.items() if needs in ("Gramian (last layer)", "Gramian")]
EIGHT_TASKS_BOUND = 3.0
REPLICAS = 10


@pytest.mark.parametrize("label", NEEDS)
def test_stacked(in_turns: InTurns, registry: Registry, label: str) -> None:
    ours, fixed = stack(registry, label, REPLICAS), stack(registry, "fixed", REPLICAS)
    in_turns(STACKED, f"{label}: {NEEDS[label]}", ours, fixed, bound=BOUNDS.get(NEEDS[label]))


@pytest.mark.parametrize("label", NEEDS)
def test_single(in_turns: InTurns, registry: Registry, label: str) -> None:
    in_turns(SINGLE, label, stack(registry, label, 1), stack(registry, "fixed", 1))


@pytest.mark.parametrize("label", GRAMIAN)
def test_eight_tasks(in_turns: InTurns, registry: Registry, label: str) -> None:
    ours, fixed = (stack(registry, each, REPLICAS, "mnist-8-tasks") for each in (label, "fixed"))
    in_turns(EIGHT_TASKS, label, ours, fixed, bound=EIGHT_TASKS_BOUND)
