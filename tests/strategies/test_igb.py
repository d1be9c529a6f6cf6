"""`igb`: weights from the losses relative to an early epoch."""

from __future__ import annotations

from functools import partial

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import Authors, Comparison, code
from tests.helpers.gradient_problems import numbers, shapes
from tests.helpers.plain import Plain, PlainStep
from tests.helpers.refused import Refused
from tests.helpers.toy import build, problem, weights_of

# The code of YanqiDai/IGB4MTL at a10deaa, methods/loss_weight_methods.py, with torch's default dtype float64: the
# gradient of ImprovableGapBalancing_v1(3, "cpu").get_weighted_loss(losses)[0] by the losses of each step, its
# base_losses set to the losses of step `warm_up` - 1, as in experiments/nyuv2/trainer.py, by `warm_up`.
WEIGHTS = {
    2: [
        [0.5, 2.0, 0.8],
        [0.6666666666666666, 1.3333333333333333, 1.0],
        [1.0331192325894307, 3.133092448521385, 1.8506556942657304],
    ],
    1: [
        [0.5, 2.0, 0.8],
        [0.4798152389291148, 2.031537737567901, 0.7566238384304018],
        [0.8951839813439249, 3.949985453896799, 1.7870473196917889],
    ],
}


class IGB(Plain):
    def __init__(self, warm_up: int) -> None:
        self.warm_up = warm_up
        self.means: list[Tensor] = []

    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        factors = torch.ones(2, dtype=torch.float64)
        if step.epoch >= self.warm_up:
            factors = 2 * torch.softmax(step.losses.detach() / self.means[self.warm_up - 1], 0)
        return (factors * step.losses.log()).sum(), None

    def epoch_end(self, mean_losses: Tensor) -> None:
        self.means.append(mean_losses)


PLAIN = {"igb": partial(IGB, 2), "igb:warm_up=1": partial(IGB, 1)}
REFUSED: Refused = {"warm_up": (0, -1)}
AUTHORS = Authors(
    *(
        Comparison(code("YanqiDai/IGB4MTL", "a10deaa"), weights, hyper={"warm_up": warm_up})
        for warm_up, weights in WEIGHTS.items()
    ),
    default="the code's `base_epoch`",
)


@given(shape=shapes, seed=numbers, warm_up=st.integers(1, 3))
def test_weights_follow_the_gap_to_the_base_epoch(
    registry: Registry, shape: tuple[int, int], seed: int, warm_up: int
) -> None:
    strategy = build(registry, "igb", shape, hyper={"warm_up": warm_up})
    means = [problem(shape, seed + 10 + epoch)[0] for epoch in range(warm_up + 2)]
    for epoch, mean in enumerate(means):
        losses, _ = problem(shape, seed + epoch)
        expected = 1 / losses
        if epoch >= warm_up:
            powers = (losses / means[warm_up - 1] - (losses / means[warm_up - 1]).amax(-1, keepdim=True)).exp()
            expected = shape[1] * powers / powers.sum(-1, keepdim=True) / losses
        torch.testing.assert_close(weights_of(strategy, losses, epoch=epoch), expected, rtol=1e-9, atol=1e-300)
        strategy.epoch_end(mean)
