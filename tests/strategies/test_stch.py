"""`stch`: a smooth maximum of the losses."""

from __future__ import annotations

import math
from functools import partial

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchjd import scalarization

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import TORCHJD, Authors, Comparison, code, scalarized
from tests.helpers.gradient_problems import numbers, shapes
from tests.helpers.plain import Plain, PlainStep
from tests.helpers.refused import POSITIVE, Refused
from tests.helpers.toy import build, given_step, problem, weights_of

# The code of Xi-L/STCH at a510c1e, STCH_MTL/LibMTL/weighting/STCH.py, with torch's default dtype float64: the
# gradient of STCH.backward(losses, STCH_mu=1.0, STCH_warmup_epoch=0) by the losses of each step, each an epoch.
WEIGHTS = [
    [0.5, 2.0, 0.8],
    [0.49180327868852464, 1.9672131147540985, 0.7868852459016393],
    [0.9836065573770492, 3.934426229508197, 1.5737704918032787],
]


class STCH(Plain):
    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        return (step.losses / 2).exp().sum().log(), None


class WarmedSTCH(Plain):
    def __init__(self, warm_up: int) -> None:
        self.warm_up = warm_up
        self.means: list[Tensor] = []

    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        if step.epoch < self.warm_up:
            return step.losses.log().sum(), None
        return 2 * (step.losses / self.means[self.warm_up - 1]).log().exp().sum().log(), None

    def epoch_end(self, mean_losses: Tensor) -> None:
        self.means.append(mean_losses)


PLAIN = {"stch": partial(WarmedSTCH, 5), "stch:warm_up=1": partial(WarmedSTCH, 1), "stch:warm_up=0": STCH}
REFUSED: Refused = {"ideal": (), "mu": POSITIVE, "warm_up": (-1,)}
AUTHORS = Authors(
    Comparison(code("Xi-L/STCH", "a510c1e"), WEIGHTS, hyper={"warm_up": 1}),
    Comparison(TORCHJD, scalarized(lambda: scalarization.STCH(1.0)), hyper={"warm_up": 0}),
    default="the code's for NYUv2, Office-31 and QM9",
    deviations="`warm_up` counts all its epochs, the code's all but the last",
)


@given(shape=shapes, seed=numbers, mu=st.floats(0.05, 20), ideal=st.floats(-2, 2))
def test_is_a_smooth_maximum(registry: Registry, shape: tuple[int, int], seed: int, mu: float, ideal: float) -> None:
    losses, _ = problem(shape, seed)
    tasks = shape[1]
    strategy = build(registry, "stch", shape, hyper={"mu": mu, "ideal": ideal, "warm_up": 0})
    distances = (losses - ideal) / tasks
    value = strategy(given_step(losses)).detach()
    # Proposition 3.4 of the paper: within mu log T above the maximum.
    assert bool((value >= distances.amax(-1) - 1e-12).all())
    assert bool((value <= distances.amax(-1) + mu * math.log(tasks) + 1e-12).all())
    shares = ((distances - distances.amax(-1, keepdim=True)) / mu).exp()
    torch.testing.assert_close(weights_of(strategy, losses), shares / shares.sum(-1, keepdim=True) / tasks)
    sharp = weights_of(build(registry, "stch", shape, hyper={"mu": 1e-9, "warm_up": 0}), losses)
    torch.testing.assert_close(sharp, nn.functional.one_hot(losses.argmax(-1), tasks).double() / tasks)


@given(shape=shapes, seed=numbers, mu=st.floats(0.2, 20), warm_up=st.integers(1, 3))
def test_warms_up_on_logarithms(registry: Registry, shape: tuple[int, int], seed: int, mu: float, warm_up: int) -> None:
    strategy = build(registry, "stch", shape, hyper={"mu": mu, "warm_up": warm_up})
    last = torch.ones(shape, dtype=torch.float64)
    for epoch in range(warm_up + 2):
        losses, mean = problem(shape, seed + epoch)[0], problem(shape, seed + 10 + epoch)[0]
        if epoch < warm_up:
            expected, last = 1 / losses, mean
        else:
            powers = (losses / last) ** (1 / mu)
            expected = shape[1] * powers / powers.sum(-1, keepdim=True) / losses
        torch.testing.assert_close(weights_of(strategy, losses, epoch=epoch), expected)
        strategy.epoch_end(mean)
