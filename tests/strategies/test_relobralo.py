"""`relobralo`: weights relative to the losses of the last and of the first step."""

from __future__ import annotations

from functools import partial

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import Authors, Comparison, code
from tests.helpers.gradient_problems import numbers, shapes
from tests.helpers.plain import PlainStep, Weighted
from tests.helpers.refused import POSITIVE, SHARE, Refused
from tests.helpers.toy import build, given_step, problem, weigh

# The code of rbischof/relative_balancing at b3c76d2, src/update_rules.py, with TensorFlow 2.21 in float32: lam0 to
# lam2 of what relobralo returns in each step, with T, alpha and rho as src/train.py has them by default; and with
# alpha = 0.95 and rho = 0 in the third step, l0 being the losses of the first step.
WEIGHTS = [
    [1.0, 1.0, 1.0],
    [0.7197228670120239, 1.523653268814087, 0.7566238641738892],
    [0.7202945351600647, 1.522912859916687, 0.7567925453186035],
]
WITH_A_LOOK_BACK = [
    [1.0, 1.0, 1.0],
    [0.7197228670120239, 1.523653268814087, 0.7566238641738892],
    [1.127600908279419, 0.9772850871086121, 0.8951139450073242],
]


def shares(losses: Tensor, earlier: Tensor, tau: float) -> Tensor:
    """T softmax(L / (tau M)), `[..., T]`."""
    return losses.shape[-1] * torch.softmax(losses / earlier / tau, -1)


class ReLoBRaLo(Weighted):
    def __init__(self, alpha: float = 0.95, rho: float = 0.99) -> None:
        self.alpha, self.rho = alpha, rho
        self.weights = torch.ones(2, dtype=torch.float64)
        self.losses: list[Tensor] = []

    def weigh(self, step: PlainStep) -> Tensor:
        now = step.losses.detach()
        if step.index == 1:
            self.weights = shares(now, self.losses[0], 1)
        elif step.index > 1:
            looks_back = bool(step.drawn(0, 1) >= self.rho)
            kept = shares(now, self.losses[0], 1) if looks_back else self.weights
            self.weights = self.alpha * kept + (1 - self.alpha) * shares(now, self.losses[-1], 1)
        self.losses.append(now)
        return self.weights


PLAIN = {"relobralo": ReLoBRaLo, "relobralo:alpha=0.8,rho=0.5": partial(ReLoBRaLo, 0.8, 0.5)}
REFUSED: Refused = {"alpha": SHARE, "rho": SHARE, "tau": POSITIVE}
OFFICIAL = code("rbischof/relative_balancing", "b3c76d2")
AUTHORS = Authors(
    Comparison(OFFICIAL, WEIGHTS, within=1e-7, hyper={"alpha": 0.999, "rho": 1.0}),
    Comparison(OFFICIAL, WITH_A_LOOK_BACK, within=1e-7, draws=[0.99]),
    default="PhysicsNeMo's; the authors tune them for each problem",
    deviations="L(0) is the loss of the first step; the script's that of the second",
)


@given(shape=shapes, seed=numbers, alpha=st.floats(0, 1), rho=st.floats(0, 1), tau=st.floats(0.1, 10))
def test_weights_average_both_lookbacks(
    registry: Registry, shape: tuple[int, int], seed: int, alpha: float, rho: float, tau: float
) -> None:
    strategy = build(registry, "relobralo", shape, hyper={"alpha": alpha, "rho": rho, "tau": tau})
    losses = [problem(shape, seed + index)[0] for index in range(5)]
    expected = torch.ones(shape, dtype=torch.float64)
    for index, now in enumerate(losses):
        drawn = given_step(now, index=index).rand(1)
        if index == 1:
            expected = shares(now, losses[0], tau)
        elif index > 1:
            kept = torch.stack(
                [expected[k] if drawn[k] < rho else shares(now[k], losses[0][k], tau) for k in range(shape[0])]
            )
            expected = alpha * kept + (1 - alpha) * shares(now, losses[index - 1], tau)
        weights, _ = weigh(strategy, given_step(now, index=index))
        torch.testing.assert_close(weights, expected, rtol=1e-9, atol=1e-300)
        torch.testing.assert_close(weights.sum(-1), torch.full(shape[:1], float(shape[1]), dtype=torch.float64))
