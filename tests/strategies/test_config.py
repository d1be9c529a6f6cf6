"""`config`: equal angles to all gradients, and the length of all projections."""

from __future__ import annotations

import torch
from hypothesis import given
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers.gradient_problems import few, numbers, solve, task_counts, times, unit
from tests.helpers.plain import PlainStep, Surgery
from tests.helpers.toy import uneven_problem


class ConFIG(Surgery):
    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        units = jacobian / jacobian.norm(dim=1, keepdim=True)
        best = torch.linalg.pinv(units) @ torch.ones(2, dtype=torch.float64)
        best = best / best.norm()
        return (jacobian @ best).sum() * best


PLAIN = {"config": ConFIG}


@few
@given(tasks=task_counts, seed=numbers)
def test_has_equal_angles_and_the_length_of_all_projections(registry: Registry, tasks: int, seed: int) -> None:
    losses, jacobian = uneven_problem(tasks, seed)
    _, d = solve(registry, "config", losses, jacobian)
    cosines = times(unit(jacobian), unit(d))
    assert bool((cosines > 0).all())
    torch.testing.assert_close(cosines, cosines[:, :1].expand_as(cosines), rtol=0, atol=1e-9)
    torch.testing.assert_close(d.norm(dim=-1), times(jacobian, unit(d)).sum(-1))
