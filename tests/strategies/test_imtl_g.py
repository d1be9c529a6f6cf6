"""`imtl-g`: equal projections onto all gradients."""

from __future__ import annotations

import torch
from hypothesis import given
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers.gradient_problems import few, numbers, solve, task_counts, times, unit
from tests.helpers.plain import PlainStep, Surgery, equal_projections
from tests.helpers.toy import uneven_problem


class IMTLG(Surgery):
    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        return equal_projections(jacobian)


PLAIN = {"imtl-g": IMTLG}


@few
@given(tasks=task_counts, seed=numbers)
def test_projects_equally_onto_all_gradients(registry: Registry, tasks: int, seed: int) -> None:
    losses, jacobian = uneven_problem(tasks, seed)
    weights, d = solve(registry, "imtl-g", losses, jacobian)
    projections = times(unit(jacobian), unit(d))
    torch.testing.assert_close(projections, projections[:, :1].expand_as(projections), rtol=0, atol=1e-9)
    torch.testing.assert_close(weights.sum(-1), torch.ones(len(losses), dtype=torch.float64))
