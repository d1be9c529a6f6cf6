"""`cov`: weights from the coefficient of variation of the loss ratios."""

from __future__ import annotations

import torch
from hypothesis import given
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers.gradient_problems import numbers, shapes
from tests.helpers.plain import PlainStep, Weighted, halves
from tests.helpers.toy import build, problem, weights_of


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


@given(shape=shapes, seed=numbers)
def test_weights_follow_the_variation_of_the_loss_ratios(registry: Registry, shape: tuple[int, int], seed: int) -> None:
    strategy = build(registry, "cov", shape)
    history = torch.stack([problem(shape, seed + step)[0] for step in range(6)])
    for step, losses in enumerate(history):
        expected = torch.full(shape, 1 / shape[1], dtype=torch.float64) if step < 2 else weights_after(history[:step])
        torch.testing.assert_close(weights_of(strategy, losses, index=step), expected, rtol=1e-9, atol=0)
