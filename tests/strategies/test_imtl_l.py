"""`imtl-l`: trained scales that make losses alike."""

from __future__ import annotations

import torch
from hypothesis import given
from torch import Tensor, nn
from torchjd import scalarization

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import TORCHJD, Authors, Comparison, code, scalarized
from tests.helpers.gradient_problems import numbers, shapes
from tests.helpers.plain import Plain, PlainStep, zeros
from tests.helpers.refused import POSITIVE, Refused
from tests.helpers.toy import build, given_step, problem, weigh, weights_of

# The code of median-research-group/LibMTL at 4336804, LibMTL/weighting/IMTL.py, with torch's default dtype float64:
# loss_scale.exp() before IMTL.backward(losses + gradients @ theta) of each step, each followed by a step of
# Adam([loss_scale], lr=0.025).
WEIGHTS = [
    [1.0, 1.0, 1.0],
    [0.9753099122721601, 1.0253151200117714, 0.9753099130036426],
    [0.9531156586360862, 1.0491826268255273, 0.9609422342403738],
]


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
AUTHORS = Authors(
    Comparison(code("median-research-group/LibMTL", "4336804", others=True), WEIGHTS),
    Comparison(TORCHJD, scalarized(lambda: scalarization.IMTLL(3))),
    default="`lr` is that of `uncertainty`",
    deviations="s has a rate of its own",
)


@given(shape=shapes, seed=numbers)
def test_makes_scaled_losses_alike(registry: Registry, shape: tuple[int, int], seed: int) -> None:
    losses, _ = problem(shape, seed)
    strategy = build(registry, "imtl-l", shape)
    (scales,) = strategy.parameters()
    for _ in range(60):  # Newton's method, no step longer than 1
        weights, (grad,) = weigh(strategy, given_step(losses))
        scales.data -= (grad / weights / losses).clamp(-1, 1)
    torch.testing.assert_close(weights_of(strategy, losses) * losses, torch.ones_like(losses))
