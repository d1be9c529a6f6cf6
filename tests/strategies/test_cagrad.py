"""`cagrad`: the best direction for the worst-served task."""

from __future__ import annotations

from functools import partial

import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch import Tensor
from torchjd import aggregation

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import TORCHJD, Authors, Comparison, aggregated, code
from tests.helpers.gradient_problems import few, numbers, solve, task_counts, times, unit
from tests.helpers.plain import PlainStep, Surgery
from tests.helpers.refused import NOT_NEGATIVE, Refused
from tests.helpers.toy import uneven_problem

# The code of Cranial-XIX/CAGrad at dc3d481, nyuv2/utils.py, with torch's default dtype float64: cagrad(gradients.mT,
# alpha=0.4, rescale=0) for each step, a function within multi_task_mgd_trainer.
DIRECTIONS = [
    [0.9805011201696426, 1.2470948763493328, -0.6463233976012427, -0.4431010008702748],
    [0.7131482877500661, 0.6570367578332011, 0.07370342449986783, 0.036851712249933916],
    [-0.09692525746962317, 0.9575100146549366, -0.15838083411176787, 1.5106121831627821],
]


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
AUTHORS = Authors(
    Comparison(code("Cranial-XIX/CAGrad", "dc3d481"), DIRECTIONS, "directions", within=1e-3),
    Comparison(TORCHJD, aggregated(lambda: aggregation.CAGrad(0.4, norm_eps=0)), "directions", within=1e-3),
    default="`run.sh` for NYUv2 and Cityscapes",
    deviations="the optimum, where the code's SLSQP stops at its default tolerance, with 1e-8 added to squares",
)


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
