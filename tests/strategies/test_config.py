"""`config`: equal angles to all gradients, and the length of all projections."""

from __future__ import annotations

import torch
from hypothesis import given
from torch import Tensor
from torchjd import aggregation

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import TORCHJD, Authors, Comparison, aggregated, code
from tests.helpers.gradient_problems import few, numbers, solve, task_counts, times, unit
from tests.helpers.plain import PlainStep, Surgery
from tests.helpers.toy import uneven_problem

# The code of tum-pbs/ConFIG at 9486243, conflictfree, with torch's default dtype float64: ConFIG_update(gradients)
# for each step.
DIRECTIONS = [
    [1.0888357812148068, 3.0823851858062103, -1.554516857142968, -0.2616141336408808],
    [1.485443703830069, 1.3855633206582063, 0.45312630629445966, 0.8252489647417938],
    [-0.9162663862991114, 2.2133749696947294, -0.15552813853875092, 2.850920697684606],
]


class ConFIG(Surgery):
    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        units = jacobian / jacobian.norm(dim=1, keepdim=True)
        best = torch.linalg.pinv(units) @ torch.ones(2, dtype=torch.float64)
        best = best / best.norm()
        return (jacobian @ best).sum() * best


PLAIN = {"config": ConFIG}
AUTHORS = Authors(
    Comparison(code("tum-pbs/ConFIG", "9486243"), DIRECTIONS, "directions"),
    Comparison(TORCHJD, aggregated(aggregation.ConFIG), "directions"),
    default="none to choose",
)


@few
@given(tasks=task_counts, seed=numbers)
def test_has_equal_angles_and_the_length_of_all_projections(registry: Registry, tasks: int, seed: int) -> None:
    losses, jacobian = uneven_problem(tasks, seed)
    _, d = solve(registry, "config", losses, jacobian)
    cosines = times(unit(jacobian), unit(d))
    assert bool((cosines > 0).all())
    torch.testing.assert_close(cosines, cosines[:, :1].expand_as(cosines), rtol=0, atol=1e-9)
    torch.testing.assert_close(d.norm(dim=-1), times(jacobian, unit(d)).sum(-1))
