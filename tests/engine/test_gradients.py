"""Gramians, Jacobians and weighted gradients of the stack, compared with autograd in float64 on random networks."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch
from hypothesis import given
from hypothesis import strategies as st

from mtlbench.engine.gradients import PER_JACOBIAN_VALUE
from tests.helpers.reference_networks import TOLERANCE, Reference, networks, relative
from tests.helpers.toy import given_step

ways = st.sampled_from([PER_JACOBIAN_VALUE, 10**9, -(10**9)])
"""Costs of a Jacobian value: the usual one, one so high that no Jacobian is made, and one so low that all are."""


@given(networks, st.booleans(), ways)
def test_gramian_matches_autograd(shape: dict[str, Any], last: bool, way: int) -> None:
    reference = Reference(**shape)
    jacobian, _ = reference.autograd()
    if last:
        layer = reference.network.trunk[-1]
        jacobian = jacobian[..., -(layer.weight[0].numel() + layer.bias[0].numel()) :]
    with patch("mtlbench.engine.gradients.PER_JACOBIAN_VALUE", way):
        found = reference.gradients().gramian(last=last)
    assert relative(found, jacobian @ jacobian.mT) < TOLERANCE


@given(networks)
def test_jacobian_matches_autograd(shape: dict[str, Any]) -> None:
    reference = Reference(**shape)
    assert relative(reference.gradients().jacobian(), reference.autograd()[0]) < TOLERANCE


@given(networks, st.sampled_from(["none", "last", "trunk"]), st.booleans())
def test_weighted_gradient_matches_autograd(shape: dict[str, Any], asked: str, own: bool) -> None:
    reference = Reference(**shape)
    replicas, tasks = shape["replicas"], len(shape["kinds"])
    weights = torch.randn(replicas, tasks, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradients = reference.gradients()
    if asked != "none":
        gradients.gramian(last=asked == "last")
    gradients.write(weights, "own" if own else "weighted", given_step(torch.ones(replicas, tasks)))
    _, expected = reference.autograd(weights)
    if own:
        expected[-1] = reference.autograd()[1][-1]
    layers = [*reference.network.trunk, reference.network.heads]
    for layer, (weight, bias) in zip(layers, expected, strict=True):
        assert relative(layer.weight_grad, weight) < TOLERANCE
        assert relative(layer.bias_grad, bias) < TOLERANCE


@given(networks)
def test_representation_gradients_match_autograd(shape: dict[str, Any]) -> None:
    reference = Reference(**shape)
    _, before, _, losses = reference.graph()
    rows = [torch.autograd.grad(losses[:, t].sum(), before, retain_graph=True)[0] for t in range(losses.shape[1])]
    assert relative(reference.gradients().representation_gradients(), torch.stack(rows, 1)) < TOLERANCE


@given(networks, ways)
def test_independent_gramian_matches_autograd(shape: dict[str, Any], way: int) -> None:
    reference = Reference(**shape)
    further = [reference.on_another_batch(shape["seed"] + i) for i in (1, 2)]
    batches = iter(further)
    with patch("mtlbench.engine.gradients.PER_JACOBIAN_VALUE", way):
        found = reference.gradients(lambda: next(batches).gradients()).independent_gramian()
    one, other = (batch.autograd()[0] for batch in further)
    assert relative(found, one @ other.mT) < TOLERANCE
    assert next(batches, None) is None


@given(networks, st.sampled_from(["none", "trunk", "jacobian"]), st.booleans())
def test_a_direction_replaces_the_gradient_of_the_objective(shape: dict[str, Any], asked: str, own: bool) -> None:
    reference = Reference(**shape)
    replicas, tasks = shape["replicas"], len(shape["kinds"])
    generator = torch.Generator().manual_seed(shape["seed"])
    weights = torch.randn(replicas, tasks, generator=generator, dtype=torch.float64)
    mixed = torch.randn(replicas, tasks, generator=generator, dtype=torch.float64)
    gradients = reference.gradients()
    if asked == "trunk":
        gradients.gramian()
    jacobian, trunk = reference.autograd(mixed)
    step = given_step(torch.ones(replicas, tasks))
    step.descend((mixed.unsqueeze(1) @ (gradients.jacobian() if asked == "jacobian" else jacobian)).squeeze(1))
    gradients.write(weights, "own" if own else "weighted", step)
    for found, expected in zip(reference.written(), [grad for layer in trunk[:-1] for grad in layer], strict=True):
        assert relative(found, expected) < TOLERANCE
    heads = reference.autograd(None if own else weights)[1][-1]
    assert relative(reference.network.heads.weight_grad, heads[0]) < TOLERANCE
    assert relative(reference.network.heads.bias_grad, heads[1]) < TOLERANCE


@given(networks, st.booleans())
def test_a_direction_of_the_representation_is_propagated_down_the_trunk(shape: dict[str, Any], asked: bool) -> None:
    reference = Reference(**shape)
    replicas, tasks = shape["replicas"], len(shape["kinds"])
    flat, before, hidden, _ = reference.graph()
    generator = torch.Generator().manual_seed(shape["seed"])
    direction = torch.randn(before.shape, generator=generator, dtype=torch.float64) * (hidden.detach() > 0)
    gradients = reference.gradients()
    if asked:
        gradients.gramian()
    step = given_step(torch.ones(replicas, tasks))
    step.descend_representation(direction.clone())
    gradients.write(torch.ones(replicas, tasks, dtype=torch.float64), "weighted", step)
    expected = torch.autograd.grad(hidden, flat[:-2], direction)
    for found, grad in zip(reference.written(), expected, strict=True):
        assert relative(found, grad) < TOLERANCE
