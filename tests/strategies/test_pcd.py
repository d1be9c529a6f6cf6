"""`pcd`: the main task's gradient, bent so that every other task makes progress."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchjd import aggregation

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import TORCHJD, Authors, Comparison, aggregated
from tests.helpers.gradient_problems import Array, few, numbers, solve, task_counts, times, unit
from tests.helpers.plain import PlainStep, Surgery
from tests.helpers.played_steps import FEATURES, REPLICAS, assert_close, few_plays, few_tasks, play
from tests.helpers.refused import NOT_NEGATIVE, SHARE, Refused
from tests.helpers.toy import build, uneven_problem


class PCD(Surgery):
    def __init__(self, tau: float = 0.02, beta: float = 0.999) -> None:
        self.tau, self.beta, self.squares = tau, beta, torch.zeros(2, dtype=torch.float64)

    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        self.squares = self.beta * self.squares + (1 - self.beta) * (jacobian**2).sum(1)
        main, other = jacobian / (self.squares / (1 - self.beta ** (step.index + 1)) + 1e-8).sqrt()[:, None]
        push = (self.tau - main @ other / (other @ other)).clamp_min(0)
        d = main + push * other
        return d * jacobian[0].norm() / d.norm()


PLAIN = {"pcd": PCD, "pcd:tau=0.5,beta=0.9": partial(PCD, 0.5, 0.9)}
REFUSED: Refused = {"tau": SHARE, "beta": (-0.1, 1.0), "eps": NOT_NEGATIVE}
AUTHORS = Authors(
    Comparison(f"{TORCHJD} (not the authors')", aggregated(aggregation.PCD), "directions"),
    default="TorchJD's, which restates the paper",
)


def pushed(rows: Array, tau: float) -> Array:
    """The point nearest to the first row on which the others progress: tries every set of active conditions."""
    main, others = rows[0], rows[1:]
    wanted = tau * (others**2).sum(1)
    best, least = main, np.inf
    for size in range(len(others) + 1):
        for active in map(list, itertools.combinations(range(len(others)), size)):
            chosen = others[active]
            push = np.linalg.solve(chosen @ chosen.T, wanted[active] - chosen @ main)
            d = main + push @ chosen
            violation = max(0.0, *(wanted - others @ d), *-push)
            if violation < least:
                best, least = d, violation
    return best


@few_plays
@given(tasks=few_tasks, seed=numbers, tau=st.floats(0, 1), beta=st.floats(0, 0.999))
def test_is_its_loop(registry: Registry, tasks: int, seed: int, tau: float, beta: float) -> None:
    hyper: dict[str, object] = {"tau": tau, "beta": beta}
    squares = np.zeros((REPLICAS, tasks))
    steps = play(build(registry, "pcd", (REPLICAS, tasks), FEATURES, hyper=hyper), tasks, seed)
    for k, (_, jacobian, _, actual, _) in enumerate(steps, start=1):
        squares = beta * squares + (1 - beta) * (jacobian**2).sum(-1)
        scaled = jacobian / np.sqrt(squares / (1 - beta**k) + 1e-8)[..., None]
        for r in range(REPLICAS):
            d = pushed(scaled[r], tau)
            assert_close(actual[r], d * np.linalg.norm(jacobian[r, 0]) / np.linalg.norm(d))


@few_plays
@given(tasks=few_tasks, seed=numbers, tau=st.floats(0, 1), beta=st.floats(0, 0.999))
def test_is_torchjds(registry: Registry, tasks: int, seed: int, tau: float, beta: float) -> None:
    theirs = [aggregation.PCD(tau=tau, beta=beta) for _ in range(REPLICAS)]
    hyper: dict[str, object] = {"tau": tau, "beta": beta}
    for _, jacobian, _, actual, _ in play(build(registry, "pcd", (REPLICAS, tasks), hyper=hyper), tasks, seed):
        for r in range(REPLICAS):
            assert_close(actual[r], theirs[r](torch.from_numpy(jacobian[r])).numpy())


@few
@given(tasks=task_counts, seed=numbers, tau=st.floats(0, 1))
def test_gives_every_other_task_its_share(registry: Registry, tasks: int, seed: int, tau: float) -> None:
    """In the first step all h_t have length 1, but for eps."""
    losses, jacobian = uneven_problem(tasks, seed)
    weights, d = solve(registry, "pcd", losses, jacobian, hyper={"tau": tau, "eps": 0.0})
    torch.testing.assert_close(d.norm(dim=-1), jacobian[:, 0].norm(dim=-1))
    assert bool((weights >= 0).all())
    before_scaling = d / (weights[:, :1] * jacobian[:, 0].norm(dim=-1, keepdim=True))
    assert bool((times(unit(jacobian), before_scaling)[:, 1:] > tau - 1e-8).all())


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1.0, 2.0], [3.0, 0.0], [-1.0, 0.0]], [1.0, 2.0]),  # no direction serves both other tasks
        ([[0.0, 0.0], [3.0, 0.0], [-1.0, 1.0]], [0.0, 0.0]),
        ([[2.0, 0.0], [-3.0, 0.0], [0.0, 1.0]], [-(2**0.5), 2**0.5]),  # d is (-tau, tau) before it is rescaled
    ],
)
def test_what_is_left_in_a_conflict(registry: Registry, rows: list[list[float]], expected: list[float]) -> None:
    jacobian = torch.tensor([rows], dtype=torch.float64)
    _, d = solve(registry, "pcd", torch.ones(1, 3, dtype=torch.float64), jacobian)
    torch.testing.assert_close(d, torch.tensor([expected], dtype=torch.float64), rtol=1e-8, atol=1e-12)
