"""`imgrad`: CAGrad's direction, with the cosine of mean and shortest vector in its objective."""

from __future__ import annotations

from functools import partial

import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import Authors, Comparison, code
from tests.helpers.gradient_problems import few, numbers, solve, task_counts, times, unit
from tests.helpers.plain import PlainStep, Surgery
from tests.helpers.refused import NOT_NEGATIVE, Refused
from tests.helpers.toy import uneven_problem

# The code of zzpustc/IMGrad at 79b64bc, nyuv2/utils.py, with torch's default dtype float64:
# imgrad(gradients.mT, alpha=0.8, rescale=0) for each step, a function within multi_task_mgd_trainer. It minimises to
# scipy's default tolerance of 1e-6, with 1e-8 added to squares.
DIRECTIONS = [
    [1.0976747394617847, 1.5462998036972526, -1.1050743316964284, -0.33900636421027636],
    [0.9141879095076301, 0.9181418485881281, 0.24006789607335824, 0.30951518639955194],
    [-0.22607774518102197, 1.3140081970863693, -0.20823167043380353, 1.868618831229652],
]


class IMGrad(Surgery):
    def __init__(self, c: float = 0.8, offset: float = 1.0) -> None:
        self.c, self.offset = c, offset

    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        one, other = jacobian
        mean = (one + other) / 2
        share = float(((other - one) @ other / (one - other).norm() ** 2).clamp(0, 1))
        shortest = share * one + (1 - share) * other
        cosine = float(torch.cosine_similarity(mean, shortest, dim=0))
        radius = self.c * mean.norm()

        def slope(share: float) -> float:
            mixed = share * one + (1 - share) * other
            along, towards = (one - other) @ mean, (one - other) @ mixed / mixed.norm()
            return float((self.offset - cosine) * along + cosine * radius * towards)

        if slope(0.0) >= 0:
            share = 0.0
        elif slope(1.0) <= 0:
            share = 1.0
        else:
            share = float(brentq(slope, 0.0, 1.0, xtol=1e-15, rtol=1e-15))
        mixed = share * one + (1 - share) * other
        return mean + radius * mixed / mixed.norm()


PLAIN = {"imgrad": IMGrad, "imgrad:c=0.3,offset=1.5": partial(IMGrad, 0.3, 1.5)}
REFUSED: Refused = {"c": NOT_NEGATIVE, "offset": (0.9, -1)}
AUTHORS = Authors(
    Comparison(code("zzpustc/IMGrad", "79b64bc"), DIRECTIONS, "directions", within=1e-3, hyper={"offset": 1.5}),
    default="`c` is that of the scripts, `offset` the paper's (in the code 1.5)",
    deviations="the optimum, where the code's SLSQP stops at its default tolerance, with 1e-8 added to squares",
)


@few
@given(tasks=task_counts, seed=numbers, c=st.floats(0.05, 2), offset=st.sampled_from([1.0, 1.5]))
def test_minimises_its_objective(registry: Registry, tasks: int, seed: int, c: float, offset: float) -> None:
    """At the minimum of a convex function over the simplex, no corner lies downhill."""
    losses, jacobian = uneven_problem(tasks, seed)
    weights, d = solve(registry, "imgrad", losses, jacobian, hyper={"c": c, "offset": offset})
    mean = jacobian.mean(1)
    torch.testing.assert_close((d - mean).norm(dim=-1), c * mean.norm(dim=-1))
    shares = weights - 1 / tasks
    shares = shares / shares.sum(-1, keepdim=True)
    assert bool((shares > -1e-12).all())
    _, shortest = solve(registry, "mgda", losses, jacobian)
    cosine = (unit(shortest) * unit(mean)).sum(-1, keepdim=True)
    mixed = (shares.unsqueeze(1) @ jacobian).squeeze(1)
    along, towards = times(jacobian, unit(mean)), times(jacobian, unit(mixed))
    slopes = (offset - cosine) * along + c * cosine * towards  # [K, T]
    slack = 1e-8 * jacobian.norm(dim=-1).amax(-1)
    assert bool(((shares * slopes).sum(-1) - slopes.amin(-1) < slack).all())


def test_turns_to_the_worst_served_task_in_a_conflict_and_to_the_shortest_vector_in_balance(registry: Registry) -> None:
    opposite = torch.tensor([[[3.0, 0.0], [-1.0, 0.0]]], dtype=torch.float64)
    losses = torch.ones(1, 2, dtype=torch.float64)
    weights, _ = solve(registry, "imgrad", losses, opposite, hyper={"c": 0.5})
    torch.testing.assert_close(weights, torch.tensor([[0.5, 0.5 + 0.5 * 1.0]], dtype=torch.float64))
    balanced = torch.tensor([[[1.0, 2.0], [2.0, 1.0]]], dtype=torch.float64)
    weights, _ = solve(registry, "imgrad", losses, balanced, hyper={"c": 0.5})
    torch.testing.assert_close(weights, torch.full_like(weights, 0.5 + 0.25))
