"""`moco`: averaged gradients, and weights that step towards the shortest vector."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import Authors, Comparison, code
from tests.helpers.gradient_problems import numbers
from tests.helpers.plain import PlainStep, Surgery, halves, on_simplex
from tests.helpers.played_steps import (
    FEATURES,
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

# The code of heshandevaka/MoCo at 88ec9e2, CAGrad/nyuv2/utils.py, with torch's default dtype float64: what
# tracking(gradients.mT, y, lambd, it, beta, 0.1, decay, decay) returns as g for each step, without its cast to
# float32, by beta and decay; a function within multi_task_mgd_trainer.
DIRECTIONS = {
    (0.99, 0.0): [
        [0.046739343749999974, 0.9480547828125, -0.25874503359375, 0.006131980078125011],
        [0.3904572423880484, 0.35846065339116273, 0.13237658837257837, 0.281504173234431],
        [0.22449833826281942, 0.6942256228706909, -0.24094665245042318, 1.1111452407690994],
    ],
    (0.5, 0.5): [
        [0.31640624999999994, 0.4945963541666666, -0.09541015624999999, -0.20096028645833333],
        [0.38234345517571156, 0.46284813048644236, -0.07555262983405639, -0.07316141220586767],
        [0.323284614281197, 0.5121473575254065, -0.10598082536995077, 0.29100922358464537],
    ],
}


class MoCo(Surgery):
    def __init__(self, beta: float = 0.99, decay: float = 0.0) -> None:
        self.beta, self.decay = beta, decay
        self.w, self.average = halves(), torch.zeros(())

    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        slower = 1 / (step.index + 1) ** self.decay
        self.average = self.average + self.beta * slower * (jacobian - self.average)
        self.w = on_simplex(self.w - 0.1 * slower * (self.average @ (self.w @ self.average)))
        return self.w @ self.average


PLAIN = {"moco": MoCo, "moco:beta=0.5,decay=0.5": partial(MoCo, 0.5, 0.5)}
REFUSED: Refused = {"beta": (0, 1.1), "decay": NOT_NEGATIVE, "gamma": POSITIVE, "rho": NOT_NEGATIVE}
AUTHORS = Authors(
    *(
        Comparison(code("heshandevaka/MoCo", "88ec9e2"), directions, "directions", hyper={"beta": beta, "decay": decay})
        for (beta, decay), directions in DIRECTIONS.items()
    ),
    default="`run_moco.sh` for NYUv2",
)


@few_plays
@given(tasks=few_tasks, seed=numbers, beta=st.floats(0.05, 1), gamma=st.floats(1e-3, 1), rho=st.floats(0, 1))
def test_is_its_loop(registry: Registry, tasks: int, seed: int, beta: float, gamma: float, rho: float) -> None:
    hyper: dict[str, object] = {"beta": beta, "gamma": gamma, "rho": rho, "decay": 0.5}
    averages, shares = np.zeros((REPLICAS, tasks, FEATURES)), equal_shares(tasks)
    steps = play(build(registry, "moco", (REPLICAS, tasks), FEATURES, hyper=hyper), tasks, seed)
    for k, (_, jacobian, weights, actual, _) in enumerate(steps, start=1):
        for r in range(REPLICAS):
            averages[r] += beta / np.sqrt(k) * (jacobian[r] - averages[r])
            slope = (averages[r] @ averages[r].T + rho * np.eye(tasks)) @ shares[r]
            shares[r] = nearest_on_simplex(shares[r] - gamma / np.sqrt(k) * slope)
            assert_close(weights[r], shares[r])
            assert_close(actual[r], shares[r] @ averages[r])
