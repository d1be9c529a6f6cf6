"""`fixed`: fixed weights, also those of one task trained alone."""

from __future__ import annotations

import math
from functools import partial

import torch
from hypothesis import given
from torch import Tensor
from torchjd import scalarization

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import TORCHJD, Authors, Comparison, code, scalarized
from tests.helpers.gradient_problems import numbers, shapes
from tests.helpers.plain import PlainStep, Weighted
from tests.helpers.refused import Refused
from tests.helpers.toy import build, problem, weights_of


class Fixed(Weighted):
    def __init__(self, weights: list[float]) -> None:
        self.weights = torch.tensor(weights, dtype=torch.float64)

    def weigh(self, step: PlainStep) -> Tensor:
        return self.weights


PLAIN = {
    "fixed": partial(Fixed, [1.0, 1.0]),
    "fixed:weights=[1,0.1]": partial(Fixed, [1.0, 0.1]),
    "single:above_five": partial(Fixed, [0.0, 1.0]),
}
REFUSED: Refused = {"weights": ([1.0], [0.0, 0.0], [1.0, -1.0], [1.0, math.nan], [1.0, math.inf])}
# The code of AvivNavon/nash-mtl at cce1840, methods/weight_methods.py: LinearScalarization(3, "cpu", weights) has these
# gradients by the losses.
OFFICIAL = code("AvivNavon/nash-mtl", "cce1840", others=True)
AUTHORS = Authors(
    Comparison(OFFICIAL, [[1.0, 1.0, 1.0]] * 3),
    Comparison(OFFICIAL, [[1.0, 0.5, 2.0]] * 3, hyper={"weights": [1.0, 0.5, 2.0]}),
    Comparison(TORCHJD, scalarized(scalarization.Sum)),
    default="the definition",
)


@given(shape=shapes, seed=numbers)
def test_weights_are_those_given(registry: Registry, shape: tuple[int, int], seed: int) -> None:
    losses, _ = problem(shape, seed)
    weights = [float(task) for task in range(shape[1])]
    expected = torch.tensor(weights, dtype=torch.float64).expand(shape)
    assert torch.equal(weights_of(build(registry, "fixed", shape), losses), torch.ones_like(losses))
    assert torch.equal(weights_of(build(registry, "fixed", shape, hyper={"weights": weights}), losses), expected)
