"""Solvers of equations in a Gramian, compared with the equations, closed forms and LAPACK."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlbench.solvers import (
    cosines,
    eigen,
    equiangular_weights,
    gradient_norms,
    impartial_weights,
    inverse_power_point,
    reciprocal,
)
from tests.helpers.gramians import anything, decades, every_gramian, few, problem, regular, seeds, tasks_


@given(
    kind=regular,
    tasks=tasks_,
    seed=seeds,
    case=st.sampled_from([(0.5, 12.0), (1.0, 12.0), (2.0, 12.0), (5.0, 12.0), (10.0, 2.0), (1.0, 0.0), (2.0, 0.0)]),
)
@settings(max_examples=150)
def test_inverse_power_point_solves_its_equation(kind: str, tasks: int, seed: int, case: tuple[float, float]) -> None:
    """Up to rounding of the terms of the sum, which may cancel."""
    alpha, spread = case
    if kind == "parallel":  # the only kind here without full rank
        spread = min(spread, 2.0)
    _, _, gramian = problem(kind, tasks, seed, spread)
    weights = inverse_power_point(gramian, alpha)
    nonzero = gramian.diagonal() > 0
    assert bool((weights[nonzero] > 0).all())
    assert bool((weights[~nonzero] == 0).all())
    left, terms = gramian @ weights, gramian.abs() @ weights
    right = weights.where(nonzero, 1.0) ** (-1 / alpha)
    assert bool(((left - right).abs() <= 1e-11 * terms)[nonzero].all())


@given(kind=st.sampled_from(["full", "near", "positive", "parallel", "conflicting"]), seed=seeds, spread=decades)
def test_bargaining_solution_of_two_tasks_is_exact(kind: str, seed: int, spread: float) -> None:
    _, _, gramian = problem(kind, 2, seed, spread)
    both = gramian.diagonal().sqrt()
    expected = 1 / (both * (1 + gramian[0, 1] / both[0] / both[1]).sqrt())
    cosine = float(gramian[0, 1] / both[0] / both[1])
    torch.testing.assert_close(inverse_power_point(gramian, 1.0), expected, rtol=2e-14 + 1e-15 / (1 + cosine), atol=0)


@given(seed=seeds, tasks=st.integers(3, 6), alpha=st.sampled_from([0.5, 1.0, 2.0, 5.0]))
@few
def test_inverse_power_point_of_orthogonal_gradients_has_a_closed_form(seed: int, tasks: int, alpha: float) -> None:
    square = 10 ** torch.from_numpy(np.random.default_rng(seed).uniform(-12, 12, tasks))
    expected = square ** (-alpha / (1 + alpha))
    torch.testing.assert_close(inverse_power_point(torch.diag(square), alpha), expected, rtol=1e-11, atol=0)


@given(kind=st.sampled_from(["full", "near", "positive", "one-zero"]), tasks=tasks_, seed=seeds, spread=decades)
@few
def test_equiangular_weights_give_projection_1_onto_every_unit_gradient(
    kind: str, tasks: int, seed: int, spread: float
) -> None:
    units, scales, gramian = problem(kind, tasks, seed, spread)
    weights = equiangular_weights(gramian)
    nonzero = units.norm(dim=-1) > 0
    lengths = weights * scales
    assert bool((weights[~nonzero] == 0).all())
    ones = nonzero.to(torch.float64)
    torch.testing.assert_close(units @ (units.mT @ lengths), ones, rtol=0, atol=1e-11 * (1 + float(lengths.norm())))


@given(
    kind=st.sampled_from(["full", "parallel", "opposite", "rank-1", "half-rank"]),
    tasks=st.integers(3, 16),
    seed=seeds,
    spread=decades,
)
@few
def test_equiangular_weights_are_those_of_the_pseudo_inverse(kind: str, tasks: int, seed: int, spread: float) -> None:
    units, scales, gramian = problem(kind, tasks, seed, spread)
    inverse = torch.linalg.pinv(units @ units.mT, hermitian=True, rtol=1e-12)
    lengths = equiangular_weights(gramian) * scales
    expected = inverse.sum(-1)
    torch.testing.assert_close(lengths, expected, rtol=0, atol=1e-9 * (1 + float(inverse.norm())))


@given(seed=seeds, spread=decades)
@few
def test_equiangular_weights_of_two_opposite_gradients_are_large_and_cancel(seed: int, spread: float) -> None:
    units, scales, gramian = problem("opposite", 2, seed, spread)
    lengths = equiangular_weights(gramian) * scales
    assert float((units.mT @ lengths).norm()) <= 1e-6 * float(lengths.norm())
    assert float(lengths.norm()) > 1e6


@given(tasks=tasks_, seed=seeds)
@settings(max_examples=10)
def test_impartial_weights_sum_to_1_or_are_0(tasks: int, seed: int) -> None:
    weights = impartial_weights(every_gramian(tasks, seed))
    sizes = weights.abs().sum(-1)
    assert bool(((sizes == 0) | ((weights.sum(-1) - 1).abs() <= 1e-14 * sizes)).all())


@given(kind=st.sampled_from(["full", "near", "parallel", "opposite"]), seed=seeds, spread=decades)
def test_impartial_weights_of_two_tasks_are_inverse_lengths(kind: str, seed: int, spread: float) -> None:
    _, _, gramian = problem(kind, 2, seed, spread)
    norms = gradient_norms(gramian)
    torch.testing.assert_close(impartial_weights(gramian), norms.flip(0) / norms.sum(), rtol=1e-14, atol=0)


@given(tasks=tasks_, seed=seeds, dtype=st.sampled_from([torch.float32, torch.float64]))
@settings(max_examples=20)
def test_eigen_agrees_with_lapack(tasks: int, seed: int, dtype: torch.dtype) -> None:
    gramians = every_gramian(tasks, seed).to(dtype)
    gramians = (gramians + gramians.mT) / 2
    values, vectors = eigen(gramians)
    rounding = 60 * torch.finfo(dtype).eps
    sizes = gramians.flatten(1).norm(dim=-1)
    reference = torch.linalg.eigvalsh(gramians.double()).to(dtype)
    assert bool(((values.sort().values - reference).abs().amax(-1) <= rounding * sizes).all())
    unit = torch.eye(tasks, dtype=dtype).expand_as(gramians)
    torch.testing.assert_close(vectors.mT @ vectors, unit, rtol=0, atol=rounding)
    again = (vectors * values[:, None]) @ vectors.mT
    assert bool(((again - gramians).abs().amax((-2, -1)) <= rounding * sizes).all())


@given(kind=anything, tasks=tasks_, seed=seeds, spread=decades)
def test_cosines_do_not_depend_on_lengths(kind: str, tasks: int, seed: int, spread: float) -> None:
    units, scales, gramian = problem(kind, tasks, seed, spread)
    nonzero = units.norm(dim=-1) > 0
    expected = (units @ units.mT).clamp(-1, 1).fill_diagonal_(1)
    torch.testing.assert_close(cosines(gramian), expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(gradient_norms(gramian), scales * nonzero, rtol=1e-14, atol=0)


def test_reciprocal_of_0_is_0() -> None:
    x = torch.tensor([2.0, 0.0, -0.5])
    assert reciprocal(x).tolist() == [0.5, 0.0, -2.0]
