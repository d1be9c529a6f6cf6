"""`imtl-g`: equal projections onto all gradients."""

from __future__ import annotations

import torch
from hypothesis import given
from torch import Tensor
from torchjd import aggregation

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import TORCHJD, Authors, Comparison, aggregated, code
from tests.helpers.gradient_problems import few, numbers, solve, task_counts, times, unit
from tests.helpers.plain import PlainStep, Surgery, equal_projections
from tests.helpers.toy import uneven_problem

# The code of AvivNavon/nash-mtl at cce1840, methods/weight_methods.py, with torch's default dtype float64: the
# weights of IMTLG(3, "cpu").get_weighted_loss(losses + gradients @ theta, [theta]) for each step.
WEIGHTS = [
    [0.10938507000488351, 0.33302815401565233, 0.5575867759794642],
    [0.1029103225315815, 0.45356913291115636, 0.44352054455726214],
    [0.43823963068389316, 0.4938649895449503, 0.06789537977115656],
]


class IMTLG(Surgery):
    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        return equal_projections(jacobian)


PLAIN = {"imtl-g": IMTLG}
AUTHORS = Authors(
    Comparison(code("AvivNavon/nash-mtl", "cce1840", others=True), WEIGHTS),
    Comparison(TORCHJD, aggregated(aggregation.IMTLG), "directions"),
    default="none to choose",
)


@few
@given(tasks=task_counts, seed=numbers)
def test_projects_equally_onto_all_gradients(registry: Registry, tasks: int, seed: int) -> None:
    losses, jacobian = uneven_problem(tasks, seed)
    weights, d = solve(registry, "imtl-g", losses, jacobian)
    projections = times(unit(jacobian), unit(d))
    torch.testing.assert_close(projections, projections[:, :1].expand_as(projections), rtol=0, atol=1e-9)
    torch.testing.assert_close(weights.sum(-1), torch.ones(len(losses), dtype=torch.float64))
