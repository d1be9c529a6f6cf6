"""`cagrad`: the best direction for the worst-served task."""

from __future__ import annotations

from functools import partial

import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers.gradient_problems import few, numbers, solve, task_counts, times, unit
from tests.helpers.plain import PlainStep, Surgery
from tests.helpers.refused import NOT_NEGATIVE, Refused
from tests.helpers.toy import uneven_problem


class CAGrad(Surgery):
    def __init__(self, c: float = 0.4) -> None:
        self.c = c

    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        one, other = jacobian
        mean = (one + other) / 2
        radius = self.c * mean.norm()

        def slope(share: float) -> float:
            mixed = share * one + (1 - share) * other
            return float((one - other) @ mean + radius * ((one - other) @ mixed) / mixed.norm())

        if slope(0.0) >= 0:
            share = 0.0
        elif slope(1.0) <= 0:
            share = 1.0
        else:
            share = float(brentq(slope, 0.0, 1.0, xtol=1e-15, rtol=1e-15))
        mixed = share * one + (1 - share) * other
        return mean + radius * mixed / mixed.norm()


PLAIN = {"cagrad": CAGrad, "cagrad:c=0.9": partial(CAGrad, 0.9)}
REFUSED: Refused = {"c": NOT_NEGATIVE}


@few
@given(tasks=task_counts, seed=numbers, c=st.floats(0.05, 0.95))
def test_is_the_best_direction_for_the_worst_served_task(registry: Registry, tasks: int, seed: int, c: float) -> None:
    losses, jacobian = uneven_problem(tasks, seed)
    _, d = solve(registry, "cagrad", losses, jacobian, hyper={"c": c})
    mean = jacobian.mean(1)
    radius = c * mean.norm(dim=-1)
    torch.testing.assert_close((d - mean).norm(dim=-1), radius)
    generator = torch.Generator().manual_seed(seed)
    ball = unit(torch.randn(200, *d.shape, generator=generator, dtype=torch.float64)) * radius.unsqueeze(-1)
    near = unit(d - mean + 0.01 * ball) * radius.unsqueeze(-1)
    worst = times(jacobian, d).amin(-1)
    slack = 1e-9 * radius * jacobian.norm(dim=-1).amax(-1)
    for others in (ball, near):
        assert bool((times(jacobian, mean + others).amin(-1) <= worst + slack).all())


@few
@given(tasks=task_counts, seed=numbers)
def test_with_c_0_is_the_mean(registry: Registry, tasks: int, seed: int) -> None:
    weights, _ = solve(registry, "cagrad", *uneven_problem(tasks, seed), hyper={"c": 0.0})
    assert torch.equal(weights, torch.full_like(weights, 1 / tasks))
