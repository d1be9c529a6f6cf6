"""How near a step of ours is to what no step can be faster than, and what the ways to multiply make of it."""

from __future__ import annotations

import pytest

from mtlbench.engine.products import Products, library
from mtlbench.plugins.registry import Registry
from mtlbench.setups import MNIST
from tests.benchmarks.conftest import InTurns
from tests.benchmarks.limits import bare_products, best_products, peak
from tests.benchmarks.loops import TURN, stack
from tests.benchmarks.ratios import LIMITS, WAYS

SHARE = 0.65  # of the best bare products' samples/s, of a stack as a bench runs it
every_size = pytest.mark.parametrize("replicas", [10, 1])


@every_size
def test_fixed_over_its_bare_products(in_turns: InTurns, registry: Registry, replicas: int) -> None:
    best = best_products(MNIST, replicas)
    ours, limit = stack(registry, "fixed", replicas), bare_products(MNIST, replicas, best)
    bound = SHARE if replicas == 10 else None
    name = f"fixed, K = {replicas}, over its bare products, the best being {best.library}"
    in_turns(LIMITS, name, ours, limit, bound=bound)


@every_size
def test_fixed_over_its_products_and_update(in_turns: InTurns, registry: Registry, replicas: int) -> None:
    best = best_products(MNIST, replicas)
    ours, limit = stack(registry, "fixed", replicas), bare_products(MNIST, replicas, best, with_update=True)
    in_turns(LIMITS, f"fixed, K = {replicas}, over these and fused Adam", ours, limit)


def test_fixed_over_the_peak_of_the_core(in_turns: InTurns, registry: Registry) -> None:
    in_turns(LIMITS, "fixed, K = 10, over a large product of as many multiply-adds", stack(registry, "fixed", 10),
             peak(MNIST, TURN // 3))  # fmt: skip


@every_size
def test_the_chosen_products_over_one_stack_by_bmm(in_turns: InTurns, registry: Registry, replicas: int) -> None:
    ours, other = stack(registry, "fixed", replicas), stack(registry, "fixed", replicas, products=Products())
    chosen = library("auto", "cpu")
    in_turns(WAYS, f"K = {replicas}, as a bench trains here ({chosen}), over one stack by bmm", ours, other)


def test_bf16_over_float32(in_turns: InTurns, registry: Registry) -> None:
    rounded = Products(library("auto", "cpu"), "bf16")
    ours, other = stack(registry, "fixed", 10, products=rounded), stack(registry, "fixed", 10)
    in_turns(WAYS, "K = 10, bf16 over float32", ours, other)
