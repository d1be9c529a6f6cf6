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
from tests.helpers.gradient_problems import Array, numbers, shapes
from tests.helpers.plain import PlainStep, Weighted
from tests.helpers.refused import Refused
from tests.helpers.toy import build, problem, weights_of


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
