"""`pinn-ntk`: weights from the gradients of square-root losses."""

from __future__ import annotations

from functools import partial

import torch
from hypothesis import given
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers import official
from tests.helpers.authors import Authors, Comparison, code
from tests.helpers.gradient_problems import few, numbers, solve, task_counts
from tests.helpers.plain import PlainStep, Weighted
from tests.helpers.refused import POSITIVE, Refused
from tests.helpers.toy import build, given_step, uneven_problem, weigh

# The code of NVIDIA/physicsnemo-sym at 9dac911, physicsnemo/sym/loss/aggregator.py, with torch's default dtype float64:
# the factors that NTK(run_per_step=1) puts on {t: losses[t] + gradients[t] @ theta} of each step; the first has none.
WEIGHTS = [
    [2.4688834556537187, 2.7602956176831506, 4.297774447880024],
    [5.133743476919052, 2.793058420029097, 2.236236441345065],
]


class PINNNTK(Weighted):
    def __init__(self, every: int = 100) -> None:
        self.every, self.w = every, torch.ones(2, dtype=torch.float64)

    def weigh(self, step: PlainStep) -> Tensor:
        if step.index % self.every == 0:
            one, other = step.jacobian(step.losses.sqrt()).norm(dim=1)
            self.w = torch.stack([1 + other / one, 1 + one / other])
        return self.w


PLAIN = {"pinn-ntk": PINNNTK, "pinn-ntk:every=7": partial(PINNNTK, 7)}
REFUSED: Refused = {"every": POSITIVE}
AUTHORS = Authors(
    Comparison(code("NVIDIA/physicsnemo-sym", "9dac911", others=True), WEIGHTS, hyper={"every": 1}),
    default="`every` is that of the paper's code",
    deviations="lengths of gradients of square-root losses, as in PhysicsNeMo; the paper has traces of kernels",
)


@few
@given(tasks=task_counts, seed=numbers)
def test_makes_the_square_roots_equally_fast(registry: Registry, tasks: int, seed: int) -> None:
    losses, jacobian = uneven_problem(tasks, seed)
    weights, _ = solve(registry, "pinn-ntk", losses, jacobian)
    speeds = (weights * jacobian.norm(dim=-1) / losses.sqrt()).log()
    torch.testing.assert_close(speeds, speeds[:, :1].expand_as(speeds))
    torch.testing.assert_close((1 / weights).sum(-1), torch.ones(len(losses), dtype=torch.float64))


def test_keeps_weights_between_updates_and_where_a_gradient_is_zero(registry: Registry) -> None:
    strategy = build(registry, "pinn-ntk", (1, 3), hyper={"every": 2})
    first, second = (given_step(official.LOSSES[i : i + 1], official.GRADIENTS[i : i + 1], index=i) for i in (0, 1))
    before, _ = weigh(strategy, first)
    kept, _ = weigh(strategy, second)
    assert torch.equal(kept, before)
    jacobian = official.GRADIENTS[2:].clone()
    jacobian[:, 1] = 0
    after, _ = weigh(strategy, given_step(official.LOSSES[2:], jacobian, index=2))
    assert torch.equal(after == before, torch.tensor([[False, True, False]]))
