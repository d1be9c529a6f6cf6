"""`cov`: weights from the coefficient of variation of the loss ratios."""

from __future__ import annotations

import torch
from hypothesis import given
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import Authors, Comparison, code
from tests.helpers.gradient_problems import numbers, shapes
from tests.helpers.plain import PlainStep, Weighted, halves
from tests.helpers.toy import build, problem, weights_of

# The code of rickgroen/cov-weighting at 64c2966, losses/covweighting_loss.py, with torch's default dtype float64:
# alphas after CoVWeightingLoss.forward of each step, with mean_sort="full", BaseLoss.forward returning the losses,
# and float64 for its FloatTensor.
WEIGHTS = [
    [0.3333333333333333, 0.3333333333333333, 0.3333333333333333],
    [0.3333333333333333, 0.3333333333333333, 0.3333333333333333],
    [0.3146853340945708, 0.4405593619981819, 0.2447553039072474],
]


def weights_after(history: Tensor) -> Tensor:
    """Weights of the step after these, whose losses are `[S, ..., T]`, from means over all of them."""
    ratios = [torch.ones_like(history[0])]
    ratios += [history[step] / history[:step].mean(0) for step in range(1, len(history))]
    stacked = torch.stack(ratios)
    variations = (stacked.var(0, correction=0) + 1e-8).sqrt() / stacked.mean(0)
    return variations / variations.sum(-1, keepdim=True)


class CoV(Weighted):
    def __init__(self) -> None:
        self.history: list[Tensor] = []

    def weigh(self, step: PlainStep) -> Tensor:
        weights = halves() if step.index < 2 else weights_after(torch.stack(self.history))
        self.history.append(step.losses.detach())
        return weights


PLAIN = {"cov": CoV}
AUTHORS = Authors(
    Comparison(code("rickgroen/cov-weighting", "64c2966"), WEIGHTS), default="full means, the code's default"
)


@given(shape=shapes, seed=numbers)
def test_weights_follow_the_variation_of_the_loss_ratios(registry: Registry, shape: tuple[int, int], seed: int) -> None:
    strategy = build(registry, "cov", shape)
    history = torch.stack([problem(shape, seed + step)[0] for step in range(6)])
    for step, losses in enumerate(history):
        expected = torch.full(shape, 1 / shape[1], dtype=torch.float64) if step < 2 else weights_after(history[:step])
        torch.testing.assert_close(weights_of(strategy, losses, index=step), expected, rtol=1e-9, atol=0)
