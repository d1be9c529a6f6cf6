"""Solvers of convex problems, compared with their optimality conditions and with scipy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, brentq, minimize, nnls
from torch import Tensor

from mtlbench.solvers import (
    conflict_averse_point,
    cosines,
    dual_cone_projection,
    eigen,
    equiangular_weights,
    gradient_norms,
    impartial_weights,
    inverse_power_point,
    least_push,
    min_norm_point,
    reciprocal,
    simplex_projection,
)
from tests.helpers.gramians import DEGENERATE, REGULAR, anything, decades, every_gramian, few, problem, seeds, tasks_


def assert_on_simplex(weights: Tensor) -> None:
    assert bool((weights >= 0).all())
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]), rtol=0, atol=1e-12)


SOLVERS: dict[str, Callable[[Tensor], Tensor]] = {
    "simplex_projection": lambda gramian: simplex_projection(gramian[..., 0]),
    "min_norm_point": min_norm_point,
    "conflict_averse_point": lambda gramian: conflict_averse_point(gramian, 0.5),
    "dual_cone_projection": lambda gramian: dual_cone_projection(gramian, torch.ones_like(gramian[..., 0])),
    "inverse_power_point 1": lambda gramian: inverse_power_point(gramian, 1.0),
    "inverse_power_point 2": lambda gramian: inverse_power_point(gramian, 2.0),
    "least_push": lambda gramian: least_push(gramian, gradient_norms(gramian)),
    "equiangular_weights": equiangular_weights,
    "impartial_weights": impartial_weights,
    "eigen": lambda gramian: eigen(gramian)[1],
    "cosines": cosines,
    "gradient_norms": gradient_norms,
}
every_solver = pytest.mark.parametrize("name", SOLVERS)


@every_solver
@given(kind=st.sampled_from(["full", "conflicting", "positive"]), tasks=tasks_, seed=seeds)
@settings(max_examples=5)
def test_leading_dimensions_are_independent_problems(name: str, kind: str, tasks: int, seed: int) -> None:
    gramians = torch.stack([problem(kind, tasks, seed + k, 2.0)[2] for k in range(4)])
    alone = torch.stack([SOLVERS[name](gramian) for gramian in gramians])
    torch.testing.assert_close(SOLVERS[name](gramians), alone, rtol=1e-8, atol=1e-10)
    together = SOLVERS[name](gramians.view(2, 2, tasks, tasks))
    torch.testing.assert_close(together, alone.view(2, 2, *alone.shape[1:]), rtol=1e-8, atol=1e-10)


@every_solver
@pytest.mark.parametrize("tasks", [2, 5])
def test_solvers_run_without_reading_values_from_the_device(name: str, tasks: int) -> None:
    result = SOLVERS[name](torch.empty(4, tasks, tasks, device="meta"))
    assert result.device.type == "meta"
    assert result.dtype == torch.float32


@every_solver
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(tasks=tasks_, seed=seeds)
@settings(max_examples=4)
def test_results_are_finite_and_keep_the_dtype(name: str, dtype: torch.dtype, tasks: int, seed: int) -> None:
    result = SOLVERS[name](every_gramian(tasks, seed).to(dtype))
    assert result.dtype == dtype
    assert bool(result.isfinite().all())


@given(tasks=tasks_, seed=seeds, spread=st.floats(-3, 6))
def test_simplex_projection_shifts_all_positive_entries_equally(tasks: int, seed: int, spread: float) -> None:
    v = 10**spread * np.random.default_rng(seed).standard_normal(tasks)

    def excess(threshold: float) -> float:
        return float(np.maximum(v - threshold, 0).sum() - 1)

    threshold = brentq(excess, v.max() - 2, v.max(), xtol=1e-15, rtol=1e-15)
    found = simplex_projection(torch.from_numpy(v))
    assert_on_simplex(found)
    torch.testing.assert_close(
        found, torch.from_numpy(np.maximum(v - threshold, 0)), rtol=0, atol=1e-14 * (1 + np.abs(v).max())
    )


@given(kind=anything, seed=seeds, spread=decades)
def test_min_norm_point_of_two_tasks_is_exact(kind: str, seed: int, spread: float) -> None:
    _, _, gramian = problem(kind, 2, seed, spread)
    first, cross, _, second = (Fraction(value) for value in gramian.flatten().tolist())
    length = first - 2 * cross + second
    share = min(max((second - cross) / length, Fraction(0)), Fraction(1)) if length else Fraction(1, 2)
    if kind == "parallel" and spread == 0:  # any share gives the same vector
        assert_on_simplex(min_norm_point(gramian))
        return
    expected = torch.tensor([float(share), float(1 - share)], dtype=torch.float64)
    torch.testing.assert_close(min_norm_point(gramian), expected, rtol=1e-13, atol=0)


@given(kind=anything, tasks=tasks_, seed=seeds, spread=decades)
@example(kind="opposite", tasks=11, seed=11, spread=12.0)  # opposite gradients 1e6 times as long as the shortest
@few
def test_min_norm_point_meets_its_optimality_conditions(kind: str, tasks: int, seed: int, spread: float) -> None:
    """<d, g_t> >= |d|^2, in units of |g_t| and of the shortest gradient, with equality where w_t > 0."""
    units, scales, gramian = problem(kind, tasks, seed, spread)
    weights = min_norm_point(gramian)
    assert_on_simplex(weights)
    norms = gradient_norms(gramian)
    lengths = weights * norms
    along = units @ (units.mT @ lengths)  # <d, g_t> / n_t
    missing = (lengths @ along) * reciprocal(norms) - along
    shortest = norms.where(norms > 0, torch.inf).amin().nan_to_num(posinf=1.0)
    # A Gramian resolves a vector down to the root of its rounding, 1.5e-8; the second term: long gradients that cancel.
    rounding = 1e-7 * shortest + 1e-14 * lengths.sum()
    assert bool((missing <= rounding).all())
    assert bool((lengths * missing.abs() <= rounding * torch.maximum(lengths.sum(), shortest)).all())
    if spread < 12 and kind not in {"one-zero", "zero"}:
        rows = torch.cat([units.mT, (1 / scales)[None] * scales.amin()]).numpy()
        reference = torch.from_numpy(nnls(rows, np.eye(len(rows))[-1])[0])
        reference = reference / scales / (reference / scales).sum()
        expected = units.mT @ (reference * scales)
        # The squared length is minimised, so vectors may differ by the root of a rounding of its terms.
        root = 1e-6 * shortest + 1e-7 * lengths.sum()
        torch.testing.assert_close(units.mT @ lengths, expected, rtol=0, atol=float(root))


@given(kind=anything, tasks=st.integers(1, 5), seed=seeds, spread=decades)
@few
def test_least_push_is_the_shortest_that_meets_its_conditions(kind: str, tasks: int, seed: int, spread: float) -> None:
    units, scales, gramian = problem(kind, max(tasks, 2), seed, spread)
    units, scales, gramian = units[:tasks], scales[:tasks], gramian[:tasks, :tasks]
    distances = torch.from_numpy(np.random.default_rng(seed + 2).standard_normal(tasks))
    distances = distances * (units.norm(dim=-1) > 0)
    weights = least_push(gramian, distances * scales)
    pushes = weights * scales
    assert bool((weights >= 0).all())
    cosines_ = (units @ units.mT).numpy()
    shortest, solution = math.inf, np.zeros(tasks)
    for active in itertools.product([False, True], repeat=tasks):
        some = np.flatnonzero(active)
        v = np.zeros(tasks)
        v[some] = np.linalg.pinv(cosines_[np.ix_(some, some)], rcond=1e-10) @ distances.numpy()[some]
        missed = max((distances.numpy() - cosines_ @ v).max(), -v.min())
        if missed < 1e-7 and v @ cosines_ @ v < shortest:
            shortest, solution = float(v @ cosines_ @ v), v
    if math.isinf(shortest):
        assert not weights.any()
    else:
        expected = torch.from_numpy(solution) @ units
        torch.testing.assert_close(pushes @ units, expected, rtol=0, atol=1e-5 * (1 + float(expected.norm())))


def averse(units: Tensor, scales: Tensor, weights: Tensor, c: float) -> Tensor:
    """<g_w, g_0> / |g_0| + c |g_w| for weights `[..., T]`."""
    jacobian = units * scales[:, None]
    mean, combined = jacobian.mean(0), weights @ jacobian
    return combined @ mean / mean.norm() + c * combined.norm(dim=-1)


@given(kind=anything, seed=seeds, spread=decades, c=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0, 1.5]))
def test_conflict_averse_point_of_two_tasks_is_a_minimum(kind: str, seed: int, spread: float, c: float) -> None:
    units, scales, gramian = problem(kind, 2, seed, spread)
    weights = conflict_averse_point(gramian, c)
    assert_on_simplex(weights)
    if float((units * scales[:, None]).mean(0).norm()) < 1e-12 or kind == "one-zero":
        return  # any w is a minimum if the mean gradient is 0; a zero gradient is left out of it
    value = averse(units, scales, weights, c)
    ends = torch.logspace(-26, 0, 4001, dtype=torch.float64)
    share = torch.cat([torch.linspace(0, 1, 4001, dtype=torch.float64), ends, 1 - ends])
    near = weights[0] * (1 + torch.linspace(-1e-3, 1e-3, 201, dtype=torch.float64))
    share = torch.cat([share, near.clamp(0, 1)])
    others = averse(units, scales, torch.stack([share, 1 - share], -1), c)
    norms = gradient_norms(gramian)
    # Where two lines cancel, the distance to the kink is the square root of a rounding of the Gramian.
    assert float(value - others.min()) <= 1e-7 * float(norms.amin()) + 1e-14 * float((weights * norms).sum())


@given(kind=anything, tasks=st.integers(2, 8), seed=seeds)
@settings(max_examples=20)
def test_conflict_averse_point_takes_one_c_for_each_problem(kind: str, tasks: int, seed: int) -> None:
    units, scales, gramian = problem(kind, tasks, seed, 1.0)
    cs = torch.tensor([0.0, 0.3, 1.0, 1.5, 1e8], dtype=torch.float64)
    weights = conflict_averse_point(gramian.expand(len(cs), -1, -1), cs)
    assert_on_simplex(weights)
    if kind == "one-zero":
        return  # a zero gradient is left out
    jacobian = units * scales[:, None]
    if float(jacobian.mean(0).norm()) > 1e-12:  # any w is a minimum if the mean gradient is 0
        for one, c in zip(weights[:-1], cs.tolist(), strict=False):
            both = torch.stack([one, conflict_averse_point(gramian, c)])
            value, alone = averse(units, scales, both, c)  # the minimum may lie at several w
            torch.testing.assert_close(value, alone, rtol=0, atol=1e-7)
    shortest = (min_norm_point(gramian) @ jacobian).norm()
    # Lengths from 0.1 to 10, whose combination may be the square root of a rounding instead of 0.
    torch.testing.assert_close((weights[-1] @ jacobian).norm(), shortest, rtol=1e-6, atol=1e-6)


@given(tasks=st.integers(3, 16), seed=seeds, c=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0, 1.5]))
@settings(max_examples=6)
def test_conflict_averse_point_is_as_low_as_slsqp(tasks: int, seed: int, c: float) -> None:
    kinds = [kind for kind in REGULAR + DEGENERATE if kind != "one-zero"]  # a zero gradient is left out
    problems = [problem(kind, tasks, seed, spread) for kind in kinds for spread in (0.0, 2.0)]
    weights = conflict_averse_point(torch.stack([gramian for _, _, gramian in problems]), c)
    assert_on_simplex(weights)
    for (units, scales, _), found in zip(problems, weights, strict=True):
        if float((units * scales[:, None]).mean(0).norm()) >= 1e-12:  # else any w is a minimum
            best, unit = lowest_by_slsqp(units, scales, c), float(scales.amin())
            assert float(averse(units, scales, found, c)) <= best + 1e-5 * max(abs(best), unit)


def lowest_by_slsqp(units: Tensor, scales: Tensor, c: float) -> float:
    """The least <g_w, g_0> / |g_0| + c |g_w| that SLSQP finds."""
    normal = (scales.amin() / scales).numpy()
    rows = (units * scales.amin()).numpy()  # of lengths: w_t g_t = lengths_t * rows_t
    mean = (units * scales[:, None]).mean(0).numpy()
    mean /= np.linalg.norm(mean)

    def objective(lengths: np.ndarray) -> tuple[float, np.ndarray]:
        """The value and its gradient, in units of the shortest gradient."""
        combined = lengths @ rows
        size = np.linalg.norm(combined)
        slope = rows @ (mean + c * combined / (size or 1.0))
        return float(combined @ mean + c * size) / float(scales.amin()), slope / float(scales.amin())

    found = minimize(
        objective,
        np.full_like(normal, 1 / normal.sum()),
        jac=True,
        method="SLSQP",
        bounds=[(0, None)] * len(normal),
        constraints=LinearConstraint(normal, 1, 1),
        options={"maxiter": 300, "ftol": 1e-12},
    )
    shares = torch.from_numpy(np.maximum(found.x, 0) * normal)
    return float(averse(units, scales, shares / shares.sum(), c))


@given(tasks=st.integers(3, 16), seed=seeds, c=st.sampled_from([0.1, 0.5, 0.9]))
@settings(max_examples=12)
def test_conflict_averse_point_closes_the_duality_gap(tasks: int, seed: int, c: float) -> None:
    """Its value equals the smallest <d, g_t> along the dual solution d = g_0 + c |g_0| g_w / |g_w|."""
    kinds = ("full", "near", "positive", "parallel")
    problems = [problem(kind, tasks, seed, spread) for kind in kinds for spread in (0.0, 2.0)]
    every = conflict_averse_point(torch.stack([gramian for _, _, gramian in problems]), c)
    for (units, scales, _), weights in zip(problems, every, strict=True):
        jacobian = units * scales[:, None]
        mean, combined = jacobian.mean(0), weights @ jacobian
        value = averse(units, scales, weights, c)
        served = jacobian @ (mean / mean.norm() + c * combined / combined.norm())
        assert float(value - served.min()) <= 1e-5 * float(torch.maximum(value.abs(), scales.amin()))


@given(kind=anything, tasks=tasks_, seed=seeds, spread=decades)
@few
def test_dual_cone_projection_is_the_nearest_direction_without_conflict(
    kind: str, tasks: int, seed: int, spread: float
) -> None:
    units, scales, gramian = problem(kind, tasks, seed, spread)
    start = torch.from_numpy(np.random.default_rng(seed).uniform(0, 1, tasks)) / scales
    weights = dual_cone_projection(gramian, start)
    lengths = (weights - start) * scales * (units.norm(dim=-1) > 0)
    assert bool((lengths >= 0).all())
    before = units.mT @ (start * scales)
    direction = before + units.mT @ lengths
    size = float(before.norm())
    assert bool((units @ direction >= -1e-10 * size).all())
    assert bool((lengths * (units @ direction) <= 1e-9 * size * (size + float(lengths.sum()))).all())
    reference = nnls(units.mT.numpy(), -before.numpy())[0] if size else np.zeros(tasks)
    torch.testing.assert_close(direction, before + units.mT @ torch.from_numpy(reference), rtol=0, atol=1e-7 * size)


@given(start=st.tuples(st.integers(0, 5), st.integers(0, 5)), seed=seeds, spread=decades)
def test_dual_cone_projection_of_two_tasks_moves_the_one_that_conflicts(
    start: tuple[int, int], seed: int, spread: float
) -> None:
    _, scales, gramian = problem("full", 2, seed, spread)
    u = torch.tensor(start, dtype=torch.float64) / scales
    conflicts = (-(gramian @ u) / gramian.diagonal()).clamp_min(0)
    torch.testing.assert_close(dual_cone_projection(gramian, u), u + conflicts, rtol=1e-14, atol=0)
