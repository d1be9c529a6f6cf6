"""`gradnorm`: weights trained to balance gradient norms and training rates."""

from __future__ import annotations

from functools import partial

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mtlbench.plugins.registry import Registry
from tests.helpers import official
from tests.helpers.authors import FORMULA, Authors, Comparison
from tests.helpers.plain import Plain, PlainStep
from tests.helpers.refused import NOT_NEGATIVE, POSITIVE, Refused
from tests.helpers.toy import build, given_step, problem, weigh


class GradNorm(Plain):
    """Algorithm 1 of the paper with two backward passes per task."""

    lr = 0.025

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha
        self.w = nn.Parameter(torch.ones(2, dtype=torch.float64))
        self.first: Tensor | None = None

    def learned(self) -> list[nn.Parameter]:
        return [self.w]

    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        values = step.losses.detach()
        self.first = values if self.first is None else self.first
        last = list(step.network.trunk[-1].parameters())
        norms: list[Tensor] = []
        for task in range(2):
            grads = torch.autograd.grad(step.losses[task], last, retain_graph=True)
            norms.append(self.w[task] * torch.cat([g.flatten() for g in grads]).norm())
        weighted, rate = torch.stack(norms), values / self.first
        target = (weighted.mean() * (rate / rate.mean()) ** self.alpha).detach()
        return (self.w.detach() * step.losses).sum() + (weighted - target).abs().sum(), None

    def project(self) -> None:
        self.w.mul_(2 / self.w.sum())


PLAIN = {"gradnorm": partial(GradNorm, 1.5), "gradnorm:alpha=0.12": partial(GradNorm, 0.12)}
REFUSED: Refused = {"alpha": NOT_NEGATIVE, "floor": (*POSITIVE, 1), "lr": POSITIVE}


def weights_by_autograd() -> Tensor:
    """Equations 1 and 2 and algorithm 1, `[S, T]`."""
    w, rows = torch.ones(3, requires_grad=True), list[Tensor]()
    optimizer = torch.optim.Adam([w], lr=0.025)
    for losses, gradients in zip(official.LOSSES, official.GRADIENTS, strict=True):
        rows.append(w.detach().clone())
        progress = losses / official.LOSSES[0]
        lengths = (w.unsqueeze(1) * gradients).norm(dim=1)
        target = lengths.mean() * (progress / progress.mean()) ** 1.5
        optimizer.zero_grad()
        (lengths - target.detach()).abs().sum().backward()
        optimizer.step()
        w.data *= 3 / w.data.sum()
    return torch.stack(rows)


AUTHORS = Authors(
    Comparison(FORMULA, weights_by_autograd),
    default="the paper's for NYUv2",
    deviations="weights stay above `floor`",
)


@given(seed=st.integers(0, 1000))
def test_pulls_weighted_norms_to_their_target(registry: Registry, seed: int) -> None:
    losses, jacobian = problem((3, 2), seed)
    strategy = build(registry, "gradnorm", (3, 2))
    _, (grad,) = weigh(strategy, given_step(losses, jacobian))
    norms = jacobian.norm(dim=-1)
    # At the first step all rates are 1, so the target is the mean norm.
    torch.testing.assert_close(grad, torch.sign(norms - norms.mean(-1, keepdim=True)) * norms)


def test_keeps_weights_positive_with_sum_t(registry: Registry) -> None:
    strategy = build(registry, "gradnorm", (2, 3))
    with torch.no_grad():
        strategy.get_parameter("weights").copy_(torch.tensor([[-1.0, 0.5, 1.0], [3.0, 3.0, 3.0]]))
        strategy.project()
    weights = strategy.get_parameter("weights")
    assert bool((weights > 0).all())
    torch.testing.assert_close(weights.sum(-1), torch.full((2,), 3.0, dtype=torch.float64))


def test_remembers_the_first_losses(registry: Registry) -> None:
    strategy = build(registry, "gradnorm", (1, 2))
    first, jacobian = problem((1, 2), 0)
    weigh(strategy, given_step(first, jacobian))
    weigh(strategy, given_step(3 * first, jacobian, index=1))
    torch.testing.assert_close(strategy.get_buffer("first_losses"), first)
