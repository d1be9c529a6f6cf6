"""The two ways to compute inner products of a layer's task gradients, their costs, and which of them is taken."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtlbench.engine.gradients import PER_JACOBIAN_VALUE, ghost_product, gramian_costs, layer_product
from mtlbench.engine.layers import Linear, Saved, explicit_jacobian
from mtlbench.engine.products import Products
from tests.helpers.reference_networks import TOLERANCE, Reference, networks, relative
from tests.project.growth.measure import explicit_gramian, multiply_adds_of


def linear_of(x: Tensor, deltas: Tensor) -> Linear:
    """A layer of these shapes; its values do not matter."""
    weight, bias = x.new_empty(len(x), deltas.shape[-1], x.shape[-1]), x.new_empty(len(x), deltas.shape[-1])
    return Linear(weight, bias, (weight,), Products())


def layer_gramian(x: Tensor, deltas: Tensor) -> Tensor:
    layer = linear_of(x, deltas)
    one = (Saved(x, layer.weight), deltas)
    return layer_product(layer, one, one)


def product_of_batches(x: Tensor, deltas: Tensor, y: Tensor, others: Tensor) -> Tensor:
    layer = linear_of(x, deltas)
    return layer_product(layer, (Saved(x, layer.weight), deltas), (Saved(y, layer.weight), others))


@given(
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 40),
    st.integers(1, 20),
    st.integers(1, 20),
)
def test_both_ways_agree(replicas: int, tasks: int, batch: int, into: int, out: int) -> None:
    x = torch.randn(replicas, batch, into, dtype=torch.float64)
    deltas = torch.randn(replicas, tasks, batch, out, dtype=torch.float64)
    jacobian = explicit_jacobian(x, deltas)
    expected = jacobian @ jacobian.mT
    assert relative(ghost_product(x, deltas, x, deltas), expected) < TOLERANCE
    assert relative(layer_gramian(x, deltas), expected) < TOLERANCE
    assert relative(product_of_batches(x, deltas, x.flip(1), deltas.flip(2)), expected) < TOLERANCE


layers = st.fixed_dictionaries(
    {
        "tasks": st.integers(1, 16),
        "batch": st.integers(1, 1024),
        "into": st.integers(1, 1024),
        "out": st.integers(1, 1024),
    }
)


def on_meta(replicas: int, *, tasks: int, batch: int, into: int, out: int) -> tuple[Tensor, Tensor]:
    """Inputs and deltas of a layer on meta, where products cost nothing."""
    x = torch.empty(replicas, batch, into, device="meta")
    return x, torch.empty(replicas, tasks, batch, out, device="meta")


@given(layers, st.integers(1, 3))
def test_costs_of_a_gramian_count_multiply_adds_and_jacobian_values(layer: dict[str, int], replicas: int) -> None:
    x, deltas = on_meta(replicas, **layer)
    ghost, explicit = gramian_costs(**layer)
    assert replicas * ghost == multiply_adds_of(lambda: ghost_product(x, deltas, x, deltas))
    values = explicit_jacobian(x, deltas).numel()
    products = multiply_adds_of(lambda: explicit_gramian(x, deltas))
    assert replicas * explicit == products + PER_JACOBIAN_VALUE * values
    _, of_two = gramian_costs(**layer, jacobians=2)
    further = multiply_adds_of(lambda: explicit_jacobian(x, deltas))
    assert replicas * (of_two - explicit) == further + PER_JACOBIAN_VALUE * values


@given(layers)
def test_the_cheaper_way_is_taken(layer: dict[str, int]) -> None:
    x, deltas = on_meta(1, **layer)
    ghost, explicit = gramian_costs(**layer)
    ways = (
        multiply_adds_of(lambda: ghost_product(x, deltas, x, deltas)),
        multiply_adds_of(lambda: explicit_gramian(x, deltas)),
    )
    assert multiply_adds_of(lambda: layer_gramian(x, deltas)) == ways[ghost > explicit]
    ghost, explicit = gramian_costs(**layer, jacobians=2)
    ways = (ways[0], ways[1] + multiply_adds_of(lambda: explicit_jacobian(x, deltas)))
    assert multiply_adds_of(lambda: product_of_batches(x, deltas, x, deltas)) == ways[ghost > explicit]


@given(networks.filter(lambda shape: shape["convolutions"] is not None), st.sampled_from([-2, 0, 2]))
def test_costs_of_a_convolution_are_those_of_the_way_taken(shape: dict[str, Any], per_value: int) -> None:
    """Rows are samples for the linear layers, and all patches of all samples for the convolutions."""
    alone: dict[str, Any] = {**shape, "replicas": 1}  # torch's counter counts each group as a whole convolution
    reference = Reference(**alone)
    gradients, tasks = reference.gradients(), len(shape["kinds"])
    gradients.jacobian()  # computes all deltas, so that only products are counted
    expected = 0
    with patch("mtlbench.engine.gradients.PER_JACOBIAN_VALUE", per_value):
        found = multiply_adds_of(gradients.gramian)
        for layer, rows in zip(reference.network.trunk, reference.rows(), strict=True):
            _, out, into = layer.weight.shape
            ghost, explicit = gramian_costs(tasks=tasks, batch=rows, into=into, out=out)
            products = explicit - per_value * tasks * (into + 1) * out
            expected += ghost if ghost <= explicit else products
    assert found == expected
