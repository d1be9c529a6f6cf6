"""`imtl`: losses scaled alike, then gradients with equal projections."""

from __future__ import annotations

import torch
from hypothesis import given
from torch import Tensor, nn

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import Authors, Comparison, code
from tests.helpers.gradient_problems import numbers
from tests.helpers.plain import PlainStep, Surgery, equal_projections, zeros
from tests.helpers.played_steps import FEATURES, REPLICAS, STEPS, few_plays, few_tasks
from tests.helpers.refused import POSITIVE, Refused
from tests.helpers.toy import build, given_step, uneven_problem, weigh

# The code of median-research-group/LibMTL at 4336804, LibMTL/weighting/IMTL.py, with torch's default dtype float64:
# the gradient of theta after IMTL.backward(losses + gradients @ theta) of each step, each followed by a step of
# Adam([loss_scale], lr=0.025).
DIRECTIONS = [
    [0.2739204439887303, 0.7754413780361882, -0.391072698971638, -0.06581475450842092],
    [0.4214464063882885, 0.3931085916007394, 0.12855987267333363, 0.2341375911246728],
    [-0.26354456895051176, 0.6366303086487192, -0.04473436638489783, 0.8200067989159076],
]


class IMTL(Surgery):
    lr = 0.025

    def __init__(self) -> None:
        self.s = nn.Parameter(zeros())

    def learned(self) -> list[nn.Parameter]:
        return [self.s]

    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        scaled = self.s.exp() * step.losses
        balance = (self.s.exp() * step.losses.detach() - self.s).sum()
        return step.losses.sum() + balance, equal_projections(step.jacobian(scaled))


PLAIN = {"imtl": IMTL}
REFUSED: Refused = {"lr": POSITIVE}
AUTHORS = Authors(
    Comparison(code("median-research-group/LibMTL", "4336804", others=True), DIRECTIONS, "directions"),
    default="`lr` is that of `uncertainty`",
    deviations="s has a rate of its own; heads learn with weight 1",
)


@few_plays
@given(tasks=few_tasks, seed=numbers)
def test_balances_losses_and_then_gradients(registry: Registry, tasks: int, seed: int) -> None:
    strategy = build(registry, "imtl", (REPLICAS, tasks), FEATURES)
    (scales,) = strategy.parameters()
    for index in range(STEPS):
        losses, jacobian = uneven_problem(tasks, seed + index, replicas=REPLICAS)
        weights, (grad,) = weigh(strategy, given_step(losses, jacobian, index=index))
        factors = scales.detach().exp()
        shares = weights / factors
        torch.testing.assert_close(shares.sum(-1), torch.ones(REPLICAS, dtype=torch.float64))
        d = ((shares * factors).unsqueeze(1) @ jacobian).squeeze(1)
        d /= d.norm(dim=-1, keepdim=True)
        projections = (jacobian @ d.unsqueeze(-1)).squeeze(-1) / jacobian.norm(dim=-1)
        torch.testing.assert_close(projections, projections[:, :1].expand_as(projections), rtol=0, atol=1e-9)
        torch.testing.assert_close(grad, factors * losses - 1)
        scales.data -= 0.3 * grad.clamp(-1, 1)
