"""`si`: the sum of the logarithms of the losses."""

from __future__ import annotations

import torch
from hypothesis import given
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import Authors, Comparison, code
from tests.helpers.gradient_problems import numbers, shapes
from tests.helpers.plain import Plain, PlainStep
from tests.helpers.toy import build, problem, weights_of

# The code of AvivNavon/nash-mtl at cce1840, methods/weight_methods.py, with torch's default dtype float64: the
# gradient of ScaleInvariantLinearScalarization(3, "cpu").backward(losses) by the losses of each step.
WEIGHTS = [
    [0.5, 2.0, 0.8],
    [0.6666666666666666, 1.3333333333333333, 1.0],
    [0.8, 4.0, 2.0],
]


class SI(Plain):
    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        return step.losses.prod().log(), None


PLAIN = {"si": SI}
AUTHORS = Authors(
    Comparison(code("AvivNavon/nash-mtl", "cce1840"), WEIGHTS),
    default="none to choose",
)


@given(shape=shapes, seed=numbers)
def test_weights_are_inverse_losses_and_a_multiple_of_those_of_geometric(
    registry: Registry, shape: tuple[int, int], seed: int
) -> None:
    losses, _ = problem(shape, seed)
    weights = weights_of(build(registry, "si", shape), losses)
    torch.testing.assert_close(weights, 1 / losses)
    shares = weights_of(build(registry, "geometric", shape), losses)
    torch.testing.assert_close(weights / weights.sum(-1, keepdim=True), shares / shares.sum(-1, keepdim=True))


def test_a_loss_of_0_has_weight_0(registry: Registry) -> None:
    weights = weights_of(build(registry, "si", (1, 2)), torch.tensor([[0.0, 2.0]], dtype=torch.float64))
    torch.testing.assert_close(weights, torch.tensor([[0.0, 0.5]], dtype=torch.float64))
