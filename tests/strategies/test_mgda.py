"""`mgda`: the shortest vector in the convex hull of the gradients."""

from __future__ import annotations

from functools import partial

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchjd import aggregation

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import TORCHJD, Authors, Comparison, aggregated, code
from tests.helpers.gradient_problems import few, numbers, solve, task_counts, times
from tests.helpers.plain import PlainStep, Surgery, Weighted, pair
from tests.helpers.refused import Refused
from tests.helpers.toy import uneven_problem

# The code of isl-org/MultiObjectiveOptimization at bf5bbb3, multi_task/min_norm_solvers.py, with float64 for its
# numbers: MinNormSolver.find_min_norm_element([[g] for g in gradients])[0] for each step, and that for the first two
# tasks, each g divided by its gradient_normalizers(..., "loss+").
WEIGHTS = [
    [0.01184928760968826, 0.2630978108761875, 0.725052901514124],
    [0.0, 0.40816326530612246, 0.5918367346938775],
    [0.3888888888888889, 0.6111111111111112, 0.0],
]
RECIPE_OF_TWO_TASKS = [
    [0.9077981780657381, 0.09220182193426185],
    [0.7135578571679274, 0.2864421428320726],
    [0.9861289563455439, 0.013871043654456128],
]


def shortest(step: PlainStep, rows: Tensor, normalise: str, least: float = 0.0) -> tuple[Tensor, Tensor]:
    """Shares of two gradients in the shortest vector, and the sizes that these are divided by."""
    losses, norms = step.losses.detach(), rows.norm(dim=1)
    size = {"none": losses**0, "l2": norms, "loss": losses, "loss+": losses * norms}[normalise]
    one, other = rows / size[:, None]
    share = (((other - one) @ other) / ((one - other) @ (one - other))).clamp(least, 1 - least)
    return pair(share, 1 - share), size


class MGDA(Surgery):
    def __init__(self, normalise: str = "none") -> None:
        self.normalise = normalise

    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        shares, size = shortest(step, jacobian, self.normalise)
        return shares / size @ jacobian


class Official(Weighted):
    """The authors' code: shares from gradients by the representation, for losses as they are; two tasks."""

    def weigh(self, step: PlainStep) -> Tensor:
        by = [torch.autograd.grad(loss, step.representation, retain_graph=True)[0] for loss in step.losses]
        rows = torch.stack([gradient * (step.representation.detach() > 0) for gradient in by]).flatten(1)
        return shortest(step, rows, "loss+", 0.001)[0]


PLAIN = {
    "mgda": MGDA,
    "mgda:l2": partial(MGDA, "l2"),
    "mgda:loss": partial(MGDA, "loss"),
    "mgda:'loss+'": partial(MGDA, "loss+"),
    "mgda:'loss+',of=losses,gradients=representation,least=0.001,heads=weighted": Official,
}
REFUSED: Refused = {"least": (-0.1, 0.5)}
OFFICIAL = code("isl-org/MultiObjectiveOptimization", "bf5bbb3")
RECIPE: dict[str, object] = {"normalise": "loss+", "of": "losses", "gradients": "representation", "least": 0.001}
AUTHORS = Authors(
    Comparison(OFFICIAL, WEIGHTS, within=1e-5),
    Comparison(OFFICIAL, RECIPE_OF_TWO_TASKS, hyper=RECIPE, tasks=2),
    Comparison(TORCHJD, aggregated(aggregation.MGDA, tasks=2), "directions", tasks=2),
    default="equation 3; the official recipe is in the docstring",
    deviations="the minimum; the code stops at a change of 1e-5, and at 0.001 and 0.999 (`least`)",
)


@few
@given(tasks=task_counts, seed=numbers, normalise=st.sampled_from(["none", "l2", "loss", "loss+"]))
def test_finds_the_shortest_vector(registry: Registry, tasks: int, seed: int, normalise: str) -> None:
    losses, jacobian = uneven_problem(tasks, seed)
    weights, d = solve(registry, "mgda", losses, jacobian, hyper={"normalise": normalise})
    norms = jacobian.norm(dim=-1)
    units = {"none": torch.ones_like(norms), "l2": norms, "loss": losses, "loss+": losses * norms}[normalise]
    shares = weights * units
    assert bool((shares >= 0).all())
    torch.testing.assert_close(shares.sum(-1), torch.ones(len(losses), dtype=torch.float64))
    length = d.norm(dim=-1, keepdim=True)
    rises = times(jacobian, d) / units - length**2  # 0 where a task holds the vector, else positive
    size = length * norms / units
    assert bool((rises > -1e-9 * size).all())
    assert bool((rises < 1e-9 * size)[shares > 1e-4].all())
