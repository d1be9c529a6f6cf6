"""How near a step of ours is to what no step can be faster than."""

from __future__ import annotations

import pytest

from mtlbench.plugins.registry import Registry
from mtlbench.setups import MNIST
from tests.benchmarks.conftest import InTurns
from tests.benchmarks.limits import bare_products
from tests.benchmarks.loops import stack
from tests.benchmarks.ratios import LIMITS

SHARE = 0.70  # of the bare products' samples/s, of a stack as a bench runs it


@pytest.mark.parametrize("replicas", [10, 1])
def test_fixed_over_its_bare_products(in_turns: InTurns, registry: Registry, replicas: int) -> None:
    ours, limit = stack(registry, "fixed", replicas), bare_products(MNIST, replicas)
    bound = SHARE if replicas == 10 else None
    in_turns(LIMITS, f"fixed, K = {replicas}, over its bare products", ours, limit, bound=bound)


@pytest.mark.parametrize("replicas", [10, 1])
def test_fixed_over_its_products_and_update(in_turns: InTurns, registry: Registry, replicas: int) -> None:
    ours, limit = stack(registry, "fixed", replicas), bare_products(MNIST, replicas, with_update=True)
    in_turns(LIMITS, f"fixed, K = {replicas}, over products and fused Adam", ours, limit)
