"""`imtl-l`: trained scales that make losses alike."""

from __future__ import annotations

import torch
from hypothesis import given
from torch import Tensor, nn

from mtlbench.plugins.registry import Registry
from tests.helpers.gradient_problems import numbers, shapes
from tests.helpers.plain import Plain, PlainStep, zeros
from tests.helpers.refused import POSITIVE, Refused
from tests.helpers.toy import build, given_step, problem, weigh, weights_of


class IMTLL(Plain):
    lr = 0.025

    def __init__(self) -> None:
        self.s = nn.Parameter(zeros())

    def learned(self) -> list[nn.Parameter]:
        return [self.s]

    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        return (self.s.exp() * step.losses - self.s).sum(), None


PLAIN = {"imtl-l": IMTLL}
REFUSED: Refused = {"lr": POSITIVE}


@given(shape=shapes, seed=numbers)
def test_makes_scaled_losses_alike(registry: Registry, shape: tuple[int, int], seed: int) -> None:
    losses, _ = problem(shape, seed)
    strategy = build(registry, "imtl-l", shape)
    (scales,) = strategy.parameters()
    for _ in range(60):  # Newton's method, no step longer than 1
        weights, (grad,) = weigh(strategy, given_step(losses))
        scales.data -= (grad / weights / losses).clamp(-1, 1)
    torch.testing.assert_close(weights_of(strategy, losses) * losses, torch.ones_like(losses))
