"""`gradvac`: gradients turned towards the usual cosine of each pair."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchjd import aggregation

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import TORCHJD, Authors, Comparison, aggregated, code
from tests.helpers.gradient_problems import numbers
from tests.helpers.plain import PlainStep, Surgery
from tests.helpers.played_steps import FEATURES, REPLICAS, assert_close, few_plays, few_tasks, play
from tests.helpers.refused import SHARE, Refused
from tests.helpers.toy import build, given_step, uneven_problem, weigh

# The code of median-research-group/LibMTL at 4336804, LibMTL/weighting/GradVac.py, with torch's default dtype
# float64: the gradient of theta after GradVac.backward(losses + gradients @ theta, GradVac_beta=0.01,
# GradVac_group_type=0) of each step, with a random.shuffle that does nothing.
DIRECTIONS = [
    [2.6865286833429116, 4.036554615344493, -0.9272590452513768, -1.640657745524956],
    [2.8368413719182404, 2.5745881301899276, 0.2656484449700932, 0.13402455479246367],
    [0.0, 1.75, -0.25, 3.5],
]


class GradVac(Surgery):
    def __init__(self) -> None:
        self.usual = [0.0, 0.0]

    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        cosine = float(torch.cosine_similarity(jacobian[0], jacobian[1], dim=0))
        total = torch.zeros_like(jacobian[0])
        for i, (g, other) in enumerate((jacobian, jacobian.flip(0))):
            p = self.usual[i]
            turned = g
            if cosine < p:
                turn = p * math.sqrt(1 - cosine**2) - cosine * math.sqrt(1 - p**2)
                turned = g + g.norm() * turn / (other.norm() * math.sqrt(1 - p**2)) * other
            total = total + turned
            self.usual[i] = 0.99 * p + 0.01 * cosine
        return total


PLAIN = {"gradvac": GradVac}
REFUSED: Refused = {"beta": SHARE}
DRAWS = [0.1, 0.4, 0.8]  # each task visits the others in their order
AUTHORS = Authors(
    Comparison(
        code("median-research-group/LibMTL", "4336804", others=True), DIRECTIONS, "directions", within=1e-8, draws=DRAWS
    ),
    Comparison(
        TORCHJD,
        aggregated(lambda: aggregation.GradVac(beta=0.01, eps=0), randperm=torch.arange),
        "directions",
        draws=DRAWS,
    ),
    default="the paper's",
    deviations="1e-8 is not added to denominators",
)


@few_plays
@given(tasks=few_tasks, seed=numbers, beta=st.floats(0, 1))
def test_is_its_loop(registry: Registry, tasks: int, seed: int, beta: float) -> None:
    usual = np.zeros((REPLICAS, tasks, tasks))
    strategy = build(registry, "gradvac", (REPLICAS, tasks), FEATURES, hyper={"beta": beta})
    for index, (_, jacobian, _, actual, _) in enumerate(play(strategy, tasks, seed)):
        orders = given_step(torch.zeros(REPLICAS, tasks), index=index).rand(tasks, tasks).argsort(-1).numpy()
        for r, gradients in enumerate(jacobian):
            total = np.zeros(FEATURES)
            for i in range(tasks):
                h = gradients[i].copy()
                for j in orders[r, i]:
                    if j == i:
                        continue
                    g, p = gradients[j], usual[r, i, j]
                    cosine = h @ g / np.linalg.norm(h) / np.linalg.norm(g)
                    if cosine < p:
                        turn = p * np.sqrt(1 - cosine**2) - cosine * np.sqrt(1 - p**2)
                        h = h + np.linalg.norm(h) * turn / (np.linalg.norm(g) * np.sqrt(1 - p**2)) * g
                    usual[r, i, j] = (1 - beta) * p + beta * cosine
                total += h
            assert_close(actual[r], total)


@given(seed=numbers, targets=st.tuples(st.floats(-0.95, 0.95), st.floats(-0.95, 0.95)))
def test_turns_a_gradient_to_its_target(registry: Registry, seed: int, targets: tuple[float, float]) -> None:
    losses, jacobian = uneven_problem(2, seed)
    strategy = build(registry, "gradvac", (len(losses), 2), hyper={"beta": 0.0})
    strategy.get_buffer("usual")[:, 0, 1], strategy.get_buffer("usual")[:, 1, 0] = targets
    extra = weigh(strategy, given_step(losses, jacobian))[0].unsqueeze(-1) - 1  # of g_t, added to the other gradient
    turned = jacobian + extra.flip(1) * jacobian.flip(1)
    before = torch.cosine_similarity(jacobian, jacobian.flip(1), dim=-1)
    after = torch.cosine_similarity(turned, jacobian.flip(1), dim=-1)
    torch.testing.assert_close(after, before.maximum(torch.tensor(targets, dtype=torch.float64)))
