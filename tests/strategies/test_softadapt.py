"""`softadapt`: weights from the slopes of the losses."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import Authors, Comparison, code
from tests.helpers.gradient_problems import Array, numbers, shapes
from tests.helpers.plain import PlainStep, Weighted
from tests.helpers.refused import Refused
from tests.helpers.toy import build, problem, weights_of

# The code of dr-aheydari/SoftAdapt at 66e7bd6, softadapt, with torch's default dtype float64:
# LossWeightedSoftAdapt(beta=0.1) and SoftAdapt(beta=0.1).get_component_weights(*losses), each task's losses in the
# step before and in this one, for the second and third step, by variant.
WEIGHTS = {
    "weighted": [
        [0.4892153023788514, 0.1883276502872845, 0.3224570443206216],
        [0.5300413154604795, 0.1879834722738698, 0.2819752084108047],
    ],
    "original": [
        [0.3222480766027223, 0.347346094423131, 0.3304058255006856],
        [0.3389118409826278, 0.3305440778141269, 0.3305440778141269],
    ],
}


def weights_between(before: Array, now: Array, beta: float, *, weighted: bool) -> Array:
    """The package's rule for two values of each loss, `[..., T]`."""
    slopes = beta * (now - before)
    powers = np.exp(slopes - slopes.max(-1, keepdims=True)) * ((now + before) / 2 if weighted else 1)
    return powers / powers.sum(-1, keepdims=True)


class SoftAdapt(Weighted):
    def __init__(self, *, weighted: bool = True, each_step: bool = False) -> None:
        self.weighted, self.each_step = weighted, each_step
        self.losses: list[Array] = []

    def weigh(self, step: PlainStep) -> Tensor:
        if self.each_step:
            self.losses.append(step.losses.detach().numpy())
        if len(self.losses) < 2:
            return torch.ones(2, dtype=torch.float64)
        before, now = self.losses[-2:]
        return torch.from_numpy(weights_between(before, now, 0.1, weighted=self.weighted))

    def epoch_end(self, mean_losses: Tensor) -> None:
        if not self.each_step:
            self.losses.append(mean_losses.numpy())


PLAIN = {
    "softadapt": SoftAdapt,
    "softadapt:variant=original": partial(SoftAdapt, weighted=False),
    "softadapt:update=step": partial(SoftAdapt, each_step=True),
}
REFUSED: Refused = {"beta": (math.nan,)}
AUTHORS = Authors(
    *(
        Comparison(
            code("dr-aheydari/SoftAdapt", "66e7bd6"), weights, within=1e-8, hyper={"update": "step", "variant": variant}
        )
        for variant, weights in WEIGHTS.items()
    ),
    default="the code's; the variant is that which its README recommends",
    deviations="the code adds 1e-8 to the denominator",
)


@given(
    shape=shapes,
    seed=numbers,
    beta=st.floats(-2, 2),
    variant=st.sampled_from(["weighted", "original"]),
    update=st.sampled_from(["epoch", "step"]),
)
def test_weights_follow_the_slopes(
    registry: Registry, shape: tuple[int, int], seed: int, beta: float, variant: str, update: str
) -> None:
    strategy = build(registry, "softadapt", shape, hyper={"beta": beta, "variant": variant, "update": update})
    values = [problem(shape, seed + epoch)[0].clamp(0.1, 10) for epoch in range(4)]
    for epoch, losses in enumerate(values):
        now = epoch - (update == "epoch")
        expected = torch.ones_like(losses)
        if now >= 1:
            pair = values[now - 1].numpy(), values[now].numpy()
            expected = torch.from_numpy(weights_between(*pair, beta, weighted=variant == "weighted"))
        torch.testing.assert_close(weights_of(strategy, losses, index=epoch, epoch=epoch), expected, rtol=1e-9, atol=0)
        strategy.epoch_end(losses)
