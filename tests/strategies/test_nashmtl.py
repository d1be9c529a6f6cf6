"""`nashmtl`: the weights that solve its equation."""

from __future__ import annotations

from functools import partial

import torch
from hypothesis import given
from torch import Tensor
from torchjd import aggregation

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import TORCHJD, Authors, Comparison, aggregated, code
from tests.helpers.gradient_problems import few, numbers, solve, task_counts, times
from tests.helpers.plain import PlainStep, Weighted
from tests.helpers.refused import NOT_NEGATIVE, Refused
from tests.helpers.toy import uneven_problem

# The code of AvivNavon/nash-mtl at cce1840, methods/weight_methods.py, with cvxpy 1.9 and ECOS 2.0, with torch's
# default dtype float64: the gradient of theta after NashMTL(3, "cpu").backward(losses + gradients @ theta, [theta])
# of each step. If one instance takes all steps, the solver fails in the second, and the weights stay as they were.
DIRECTIONS = [
    [0.39256789178683865, 0.8142371651239428, -0.40449783029387354, -0.13888354782686502],
    [0.7302922705164324, 0.6277269935235782, 0.12674356797645356, 0.23783804258964236],
    [-0.0989813355017398, 0.5193092518176184, -0.06035342030480512, 0.8466858367522703],
]


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
AUTHORS = Authors(
    Comparison(code("AvivNavon/nash-mtl", "cce1840"), DIRECTIONS, "directions", within=1e-6),
    Comparison(TORCHJD, aggregated(lambda: aggregation.NashMTL(3), anew=True), "directions", within=1e-6),
    default="`max_norm` is the code's",
    deviations="solved to rounding; the code's solver, which may stay at the last weights, was made anew in each step",
)


@few
@given(tasks=task_counts, seed=numbers)
def test_solves_its_equation(registry: Registry, tasks: int, seed: int) -> None:
    losses, jacobian = uneven_problem(tasks, seed)
    weights, d = solve(registry, "nashmtl", losses, jacobian, hyper={"max_norm": 0.0})
    assert bool((weights > 0).all())
    gains = weights * times(jacobian, d)
    torch.testing.assert_close(gains, torch.ones_like(gains), rtol=1e-8, atol=0)
