"""`modo`: weights from the products of two further batches."""

from __future__ import annotations

from functools import partial

from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers.gradient_problems import numbers
from tests.helpers.plain import PlainStep, Surgery, halves, on_simplex
from tests.helpers.played_steps import (
    REPLICAS,
    assert_close,
    equal_shares,
    few_plays,
    few_tasks,
    nearest_on_simplex,
    play,
)
from tests.helpers.refused import NOT_NEGATIVE, POSITIVE, Refused
from tests.helpers.toy import build


class MoDo(Surgery):
    def __init__(self, gamma: float) -> None:
        self.gamma, self.w = gamma, halves()

    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        one, other = (step.jacobian(step.further(draw)) for draw in range(2))
        self.w = on_simplex(self.w - self.gamma * (one @ (self.w @ other) + 0.1 * self.w))
        return self.w @ jacobian


PLAIN = {"modo": partial(MoDo, 1e-3), "modo:gamma=1": partial(MoDo, 1.0)}
REFUSED: Refused = {"gamma": POSITIVE, "rho": NOT_NEGATIVE}


@few_plays
@given(tasks=few_tasks, seed=numbers, gamma=st.floats(1e-4, 0.1), rho=st.floats(0, 1))
def test_is_its_loop(registry: Registry, tasks: int, seed: int, gamma: float, rho: float) -> None:
    shares = equal_shares(tasks)
    strategy = build(registry, "modo", (REPLICAS, tasks), hyper={"gamma": gamma, "rho": rho})
    for _, jacobian, weights, actual, (one, other) in play(strategy, tasks, seed):
        for r in range(REPLICAS):
            slope = one[r] @ (other[r].T @ shares[r]) + rho * shares[r]
            shares[r] = nearest_on_simplex(shares[r] - gamma * slope)
            assert_close(weights[r], shares[r])
            assert_close(actual[r], shares[r] @ jacobian[r])
