"""`geometric`: the geometric mean of the losses."""

from __future__ import annotations

import torch
from hypothesis import given
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers.gradient_problems import numbers, shapes
from tests.helpers.plain import Plain, PlainStep
from tests.helpers.toy import build, given_step, problem, weights_of


class Geometric(Plain):
    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        return step.losses.prod().sqrt(), None


PLAIN = {"geometric": Geometric}


@given(shape=shapes, seed=numbers)
def test_weights_are_its_value_over_each_loss(registry: Registry, shape: tuple[int, int], seed: int) -> None:
    losses, _ = problem(shape, seed)
    strategy = build(registry, "geometric", shape)
    value = losses.prod(-1) ** (1 / shape[1])
    torch.testing.assert_close(strategy(given_step(losses)).detach(), value)
    torch.testing.assert_close(weights_of(strategy, losses), value[:, None] / (shape[1] * losses))
    losses[:, 0] = 0
    weights = weights_of(strategy, losses)
    assert torch.equal(weights[:, 0], torch.zeros(shape[0], dtype=torch.float64))
    assert bool(weights.isfinite().all())
