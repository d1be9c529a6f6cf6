"""`nashmtl`: the weights that solve its equation."""

from __future__ import annotations

from functools import partial

import torch
from hypothesis import given
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers.gradient_problems import few, numbers, solve, task_counts, times
from tests.helpers.plain import PlainStep, Weighted
from tests.helpers.refused import NOT_NEGATIVE, Refused
from tests.helpers.toy import uneven_problem


class NashMTL(Weighted):
    def __init__(self, limit: float = 1.0) -> None:
        self.limit = limit

    def weigh(self, step: PlainStep) -> Tensor:
        jacobian = step.jacobian()
        cosine = torch.cosine_similarity(jacobian[0], jacobian[1], dim=0)
        weights = 1 / (jacobian.norm(dim=1) * (1 + cosine).sqrt())
        return weights * self.limit / (weights @ jacobian).norm()


PLAIN = {"nashmtl": NashMTL, "nashmtl:max_norm=0.5": partial(NashMTL, 0.5)}
REFUSED: Refused = {"max_norm": NOT_NEGATIVE}


@few
@given(tasks=task_counts, seed=numbers)
def test_solves_its_equation(registry: Registry, tasks: int, seed: int) -> None:
    losses, jacobian = uneven_problem(tasks, seed)
    weights, d = solve(registry, "nashmtl", losses, jacobian, hyper={"max_norm": 0.0})
    assert bool((weights > 0).all())
    gains = weights * times(jacobian, d)
    torch.testing.assert_close(gains, torch.ones_like(gains), rtol=1e-8, atol=0)
