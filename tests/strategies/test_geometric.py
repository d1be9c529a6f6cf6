"""`geometric`: the geometric mean of the losses."""

from __future__ import annotations

import torch
from hypothesis import given
from torch import Tensor
from torchjd import scalarization

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import TORCHJD, Authors, Comparison, code, scalarized
from tests.helpers.gradient_problems import numbers, shapes
from tests.helpers.plain import Plain, PlainStep
from tests.helpers.toy import build, given_step, problem, weights_of

# The code of median-research-group/LibMTL at 4336804, LibMTL/weighting/GLS.py, with torch's default dtype float64:
# the gradient of GLS.backward(losses) by the losses of each step.
WEIGHTS = [
    [0.17953622416932363, 0.7181448966772945, 0.2872579586709178],
    [0.2311204247835449, 0.4622408495670898, 0.34668063717531733],
    [0.14362897933545893, 0.7181448966772946, 0.3590724483386473],
]


class Geometric(Plain):
    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        return step.losses.prod().sqrt(), None


PLAIN = {"geometric": Geometric}
AUTHORS = Authors(
    Comparison(code("median-research-group/LibMTL", "4336804", others=True), WEIGHTS),
    Comparison(TORCHJD, scalarized(scalarization.GeometricMean)),
    default="none to choose",
)


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
