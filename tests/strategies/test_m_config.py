"""`m-config`: ConFIG of averaged gradients that are renewed in turn."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import Authors, Comparison, code
from tests.helpers.gradient_problems import Array, numbers
from tests.helpers.plain import PlainStep, Surgery
from tests.helpers.played_steps import FEATURES, REPLICAS, assert_close, few_plays, few_tasks, play
from tests.helpers.refused import POSITIVE, Refused
from tests.helpers.toy import build

# The code of tum-pbs/ConFIG at 9486243, conflictfree, with torch's default dtype float64: what
# PseudoMomentumOperator(3).calculate_gradient(*OrderedSliceSelector().select(updates, list(gradients))) returns in each
# step, by number of updates.
DIRECTIONS = {
    1: [
        [0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0],
        [0.9999999958065064, 0.9999999964535534, 0.9999999923776633, 0.9999999894523177],
    ],
    2: [
        [0.0, 0.0, 0.0, 0.0],
        [0.9999999925931455, 0.9999999952787217, -0.9999999853843831, 0.9999999906633639],
        [0.9493474146500523, 0.9853612926186832, -0.9953490123341754, 0.8929829082547431],
    ],
    3: [
        [0.9999999908158788, 0.999999996755759, -0.9999999935671332, -0.999999961775767],
        [0.9997333750638839, 0.8914965085116308, -0.6134161866054612, 0.6398215859125788],
        [0.9827193097041886, 0.9226420456463555, -0.36555035904786165, 0.7048448989568209],
    ],
}


class MConFIG(Surgery):
    def __init__(self, updates: int = 1, beta_1: float = 0.9, beta_2: float = 0.999) -> None:
        self.updates, self.beta_1, self.beta_2 = updates, beta_1, beta_2
        self.averages, self.counts = [torch.zeros(()), torch.zeros(())], [0, 0]
        self.last, self.squares, self.steps = torch.zeros(()), torch.zeros(()), 0

    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        for task in [step.index % 2] if self.updates == 1 else [0, 1]:
            self.averages[task] = self.beta_1 * self.averages[task] + (1 - self.beta_1) * jacobian[task]
            self.counts[task] += 1
        if 0 in self.counts:
            return torch.zeros_like(jacobian[0])
        one, other = (y / (1 - self.beta_1**k) for y, k in zip(self.averages, self.counts, strict=True))
        middle = one / one.norm() + other / other.norm()
        middle = middle / middle.norm()
        u = (middle @ one + middle @ other) * middle
        self.steps += 1
        current = u * (1 - self.beta_1**self.steps)
        pseudo = (current - self.beta_1 * self.last) / (1 - self.beta_1)
        self.last = current
        self.squares = self.beta_2 * self.squares + (1 - self.beta_2) * pseudo**2
        return u / ((self.squares / (1 - self.beta_2**self.steps)).sqrt() + 1e-8)


PLAIN = {"m-config": MConFIG, "m-config:updates=2,beta_1=0.5,beta_2=0.9": partial(MConFIG, 2, 0.5, 0.9)}
REFUSED: Refused = {"updates": POSITIVE, "beta_1": (-0.1, 1.0), "beta_2": (-0.1, 1.0)}
AUTHORS = Authors(
    *(
        Comparison(code("tum-pbs/ConFIG", "9486243"), directions, "directions", hyper={"updates": updates})
        for updates, directions in DIRECTIONS.items()
    ),
    default="the code's",
    deviations="the setup's optimizer comes on top",
)


def conflict_free(rows: Array) -> Array:
    """The direction of equal cosines to all rows, as long as the sum of their projections."""
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    direction = np.linalg.lstsq(units, np.ones(len(rows)), rcond=None)[0]
    direction /= np.linalg.norm(direction)
    return (rows @ direction).sum() * direction


@few_plays
@given(tasks=few_tasks, seed=numbers, updates=st.integers(1, 5), beta_1=st.floats(0, 0.95), beta_2=st.floats(0, 0.99))
def test_is_its_loop(registry: Registry, tasks: int, seed: int, updates: int, beta_1: float, beta_2: float) -> None:
    hyper: dict[str, object] = {"updates": updates, "beta_1": beta_1, "beta_2": beta_2}
    steps = play(build(registry, "m-config", (REPLICAS, tasks), FEATURES, hyper=hyper), tasks, seed)
    for r in range(REPLICAS):
        averages, counts = np.zeros((tasks, FEATURES)), np.zeros(tasks)
        last, squares, number, turn = np.zeros(FEATURES), np.zeros(FEATURES), 0, 0
        for _, jacobian, weights, actual, _ in steps:
            for _ in range(min(updates, tasks)):
                averages[turn] = beta_1 * averages[turn] + (1 - beta_1) * jacobian[r, turn]
                counts[turn] += 1
                turn = (turn + 1) % tasks
            if not counts.all():
                assert not actual[r].any()
                continue
            number += 1
            means = averages / (1 - beta_1**counts)[:, None]
            u = conflict_free(means)
            assert_close(weights[r] @ means, u)
            pseudo = ((1 - beta_1**number) * u - beta_1 * last) / (1 - beta_1)
            last = (1 - beta_1**number) * u
            squares = beta_2 * squares + (1 - beta_2) * pseudo**2
            assert_close(actual[r], u / (np.sqrt(squares / (1 - beta_2**number)) + 1e-8))
