"""Compares our strategies on a Gramian with TorchJD's, replica by replica, in float64 and on badly scaled gradients.

Where the two differ, the test shows which of them meets the definition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import least_squares
from torch import Tensor, nn
from torchjd import aggregation

from mtlbench.contracts.strategy import Step
from mtlbench.plugins.registry import Registry
from tests.helpers.torchjd_problems import (
    EXACT_PROJECTION,
    K,
    any_seed,
    assert_agree,
    build,
    combined,
    each_count,
    few,
    problem,
    weigh,
)
from tests.helpers.toy import given_step

# TorchJD's solvers warn; the accuracy of what they return is measured here.
pytestmark = [
    pytest.mark.usefixtures("in_double"),
    pytest.mark.filterwarnings("ignore:You are solving a parameterized problem that is not DPP"),
    pytest.mark.filterwarnings("ignore:Solution may be inaccurate"),
]


@pytest.mark.parametrize(
    ("name", "hyper", "theirs"),
    [
        ("imtl-g", {}, aggregation.IMTLGWeighting),
        ("aligned-mtl", {}, aggregation.AlignedMTLWeighting),
        ("aligned-mtl", {"scale": "median"}, partial(aggregation.AlignedMTLWeighting, scale_mode="median")),
        ("aligned-mtl", {"scale": "mean"}, partial(aggregation.AlignedMTLWeighting, scale_mode="rmse")),
        ("upgrad", {}, partial(aggregation.UPGradWeighting, projector=EXACT_PROJECTION())),
        ("dualproj", {}, partial(aggregation.DualProjWeighting, projector=EXACT_PROJECTION())),
    ],
)
@each_count
@few
@any_seed
def test_weights_from_a_gramian(
    registry: Registry, name: str, hyper: dict[str, object], theirs: Callable[[], nn.Module], tasks: int, seed: int
) -> None:
    losses, jacobian = problem(tasks, seed)
    actual = weigh(build(registry, name, tasks, **hyper), given_step(losses, jacobian))
    assert_agree(actual, (theirs()(gramian) for gramian in jacobian @ jacobian.mT), 1e-8)


@each_count
@few
@any_seed
def test_config_takes_the_same_direction(registry: Registry, tasks: int, seed: int) -> None:
    losses, jacobian = problem(tasks, seed)
    actual = weigh(build(registry, "config", tasks), given_step(losses, jacobian))
    assert_agree(combined(actual, jacobian), map(aggregation.ConFIG(), jacobian), 1e-8)


@each_count
@few
@any_seed
def test_torchjds_ridge_moves_the_projection_off_its_optimum(registry: Registry, tasks: int, seed: int) -> None:
    losses, jacobian = problem(tasks, seed)
    actual = weigh(build(registry, "dualproj", tasks), given_step(losses, jacobian))
    theirs = torch.stack([aggregation.DualProjWeighting()(gramian) for gramian in jacobian @ jacobian.mT])
    assert float(theirs.min()) > (1 - 1e-9) / tasks  # feasible for the same problem, argmin {v'Gv : v >= 1 / T}
    ours, others = (combined(weights, jacobian).norm(dim=-1) for weights in (actual, theirs))
    assert bool((ours <= others * (1 + 1e-9)).all())


@few
@any_seed
def test_mgda_of_two_tasks(registry: Registry, seed: int) -> None:
    losses, jacobian = problem(2, seed)
    actual = weigh(build(registry, "mgda", 2), given_step(losses, jacobian))
    assert_agree(actual, map(aggregation.MGDAWeighting(), jacobian @ jacobian.mT), 1e-12)


@pytest.mark.parametrize("tasks", [3, 8])
@few
@any_seed
def test_mgda_is_the_shortest_vector_that_torchjds_steps_approach(registry: Registry, tasks: int, seed: int) -> None:
    """The shortest d of a convex hull has <d, g_t> >= |d|^2 for every task, and |x - d|^2 <= |x|^2 - |d|^2 for any x.

    TorchJD's x, the last of its Frank-Wolfe steps, was 20 times as long as d in the worst of 100 draws of eight tasks.
    """
    losses, jacobian = problem(tasks, seed)
    d = combined(weigh(build(registry, "mgda", tasks), given_step(losses, jacobian)), jacobian)
    theirs = aggregation.MGDAWeighting(epsilon=1e-9, max_iters=300)
    x = combined(torch.stack([theirs(gramian) for gramian in jacobian @ jacobian.mT]), jacobian)
    excess = x.square().sum(-1) - d.square().sum(-1)
    assert bool(((x - d).square().sum(-1) <= excess + 1e-9 * x.square().sum(-1)).all())
    assert bool(((jacobian @ d.unsqueeze(-1)).amin((-2, -1)) >= d.square().sum(-1) - 1e-9 * x.square().sum(-1)).all())


@pytest.mark.parametrize("c", [0.4, 0.9])
@each_count
@few
@any_seed
def test_cagrad_meets_its_dual_which_torchjd_approximates(registry: Registry, c: float, tasks: int, seed: int) -> None:
    """The worst task's <d, g_t> equals the dual's <g_v, g_0> + c |g_0| |g_v|.

    TorchJD stops once the dual is accurate to 1e-8, so its weights are accurate to about the square root of that.
    """
    losses, jacobian = problem(tasks, seed)
    weights = weigh(build(registry, "cagrad", tasks, c=c), given_step(losses, jacobian))
    theirs = aggregation.CAGradWeighting(c=c, norm_eps=0)
    others = torch.stack([theirs(gramian) for gramian in jacobian @ jacobian.mT])

    def gap(weights: Tensor) -> Tensor:
        shares = weights - 1 / tasks
        g_0, g_v = jacobian.mean(-2), combined(shares / shares.sum(-1, keepdim=True), jacobian)
        dual = (g_v * g_0).sum(-1) + c * g_0.norm(dim=-1) * g_v.norm(dim=-1)
        worst = (combined(weights, jacobian).unsqueeze(-2) * jacobian).sum(-1).amin(-1)
        return (dual - worst) / (g_0.norm(dim=-1) * jacobian.norm(dim=-1).amax(-1))

    assert float(gap(weights).abs().max()) < 1e-10
    assert bool((gap(weights).abs() <= gap(others).abs() + 1e-10).all())
    assert_agree(combined(weights, jacobian), combined(others, jacobian), 2e-3)


@few
@any_seed
def test_cagrad_of_small_gradients_is_that_of_large_ones(registry: Registry, seed: int) -> None:
    """The problem does not depend on scale; by default TorchJD returns zeros below a squared length of 1e-4."""
    losses, jacobian = problem(3, seed)
    small = jacobian * 1e-3 / jacobian.norm(dim=(-2, -1), keepdim=True)
    strategy = build(registry, "cagrad", 3)
    actual = weigh(strategy, given_step(losses, small))
    assert_agree(actual, weigh(strategy, given_step(losses, jacobian)), 1e-8)
    assert not any(bool(aggregation.CAGradWeighting(0.5)(one @ one.mT).any()) for one in small)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
@each_count
@few
@any_seed
def test_fairgrad_where_torchjds_solver_does_not_stop_early(
    registry: Registry, alpha: float, tasks: int, seed: int
) -> None:
    losses, jacobian = problem(tasks, seed)
    actual = weigh(build(registry, "fairgrad", tasks, alpha=alpha, max_norm=0.0), given_step(losses, jacobian))
    theirs = aggregation.FairGradWeighting(alpha, max_iters=10_000)
    to_the_end = partial(least_squares, ftol=1e-15, xtol=1e-15, gtol=1e-15)
    with patch("torchjd.aggregation._fairgrad.least_squares", to_the_end):
        expected = [theirs(gramian) for gramian in jacobian @ jacobian.mT]
    assert_agree(actual, expected, 1e-9)


@each_count
def test_nashmtl_meets_its_equation_which_torchjd_sometimes_misses(registry: Registry, tasks: int) -> None:
    """w (Gw) = 1. At w with r = w (Gw) - 1, the solution lies within |r| / (1 - |r|), element by element.

    It is the minimum of the self-concordant w'Gw / 2 - sum log w, whose Newton decrement at w is at most |r|.
    """
    solved = 0  # TorchJD's solver fails on some problems and leaves the weights unchanged
    for seed in range(6):
        losses, jacobian = problem(tasks, seed, spread=0.5)
        actual = weigh(build(registry, "nashmtl", tasks, max_norm=0.0), given_step(losses, jacobian))
        for weights, one in zip(actual, jacobian, strict=True):
            theirs = aggregation.NashMTL(tasks, max_norm=0).weighting(one)
            ours_left, theirs_left = (float((w * (one @ (one.mT @ w)) - 1).norm()) for w in (weights, theirs))
            assert ours_left < 1e-10
            if theirs_left < 1e-2:
                solved += 1
                assert float((weights / theirs - 1).norm()) < theirs_left / (1 - theirs_left) + 1e-9
    assert solved >= 6


def orders(step: Step, tasks: int) -> Tensor:
    """Orders in which `pcgrad` and `gradvac` visit tasks in a step, `[K, T, T]`."""
    return step.rand(tasks, tasks).argsort(-1)


def visiting(rows: Iterable[Tensor], theirs: nn.Module, gramian: Tensor) -> Tensor:
    """TorchJD's weights from a Gramian if it visits tasks in these orders."""
    remaining = iter(rows)

    def randperm(count: int) -> Tensor:
        return next(remaining)

    with patch("torch.randperm", randperm):
        return theirs(gramian)


def others_of(order: Tensor) -> list[Tensor]:
    """The same orders as positions among a row's other tasks."""
    return [row[row != i] - (row[row != i] > i).long() for i, row in enumerate(order)]


@each_count
@few
@any_seed
def test_pcgrad_in_the_same_order(registry: Registry, tasks: int, seed: int) -> None:
    losses, jacobian = problem(tasks, seed)
    actual = weigh(build(registry, "pcgrad", tasks), given_step(losses, jacobian))
    rows = orders(given_step(losses), tasks)
    theirs = aggregation.PCGradWeighting()
    expected = [visiting(o, theirs, gramian) for o, gramian in zip(rows, jacobian @ jacobian.mT, strict=True)]
    assert_agree(actual, expected, 1e-12)


@each_count
@few
@given(seed=st.integers(0, 10**6), beta=st.sampled_from([0.01, 0.5]))
def test_gradvac_in_the_same_order(registry: Registry, tasks: int, seed: int, beta: float) -> None:
    strategy = build(registry, "gradvac", tasks, beta=beta)
    theirs = [aggregation.GradVacWeighting(beta=beta, eps=0) for _ in range(K)]
    for index in range(4):
        losses, jacobian = problem(tasks, seed, index)
        actual = weigh(strategy, given_step(losses, jacobian, index=index))
        rows = map(others_of, orders(given_step(losses, index=index), tasks))
        expected = [visiting(*each) for each in zip(rows, theirs, jacobian @ jacobian.mT, strict=True)]
        assert_agree(actual, expected, 1e-11)
