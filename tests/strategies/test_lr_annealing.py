"""`lr-annealing`: weights from the typical entries of the gradients."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers import official
from tests.helpers.authors import Authors, Comparison, code
from tests.helpers.gradient_problems import numbers
from tests.helpers.plain import PlainStep, Weighted
from tests.helpers.played_steps import FEATURES, REPLICAS, assert_close, few_plays, few_tasks, play
from tests.helpers.refused import POSITIVE, Refused
from tests.helpers.toy import build, given_step, weigh

# The code of NVIDIA/physicsnemo-sym at 9dac911, physicsnemo/sym/loss/aggregator.py, with torch's default dtype float64:
# LRAnnealing([theta], 3).lmbda_ema after each step's forward({t: losses[t] + gradients[t] @ theta}, step), alpha 0.01.
# It adds 1e-8 to every denominator.
WEIGHTS = [
    [0.9999999999333333, 1.0059999998293334, 1.0269230760142012],
    [0.9999999998451111, 1.0109399996310402, 1.0391538448040591],
    [0.9999999997012055, 1.013052821639668, 1.0366194491233653],
]


class LRAnnealing(Weighted):
    def __init__(self, alpha: float = 0.1, every: int = 10, *, mean: bool = False) -> None:
        self.alpha, self.every, self.mean, self.second = alpha, every, mean, 1.0

    def weigh(self, step: PlainStep) -> Tensor:
        if step.index % self.every == 0:
            one, other = step.jacobian().abs()
            ratio = float((one.mean() if self.mean else one.max()) / other.mean())
            self.second += self.alpha * (ratio - self.second)
        return torch.tensor([1.0, self.second], dtype=torch.float64)


PLAIN = {
    "lr-annealing": LRAnnealing,
    "lr-annealing:alpha=0.01,every=1,reference=mean": partial(LRAnnealing, 0.01, 1, mean=True),
}
REFUSED: Refused = {"alpha": (0, 1.1), "every": POSITIVE}
AUTHORS = Authors(
    Comparison(
        code("NVIDIA/physicsnemo-sym", "9dac911", others=True),
        WEIGHTS,
        within=1e-7,
        hyper={"alpha": 0.01, "every": 1, "reference": "mean"},
    ),
    default="the authors' code",
    deviations="mean over all parameters; the authors' code has a mean of the layers' means, without biases",
)


@few_plays
@given(
    tasks=few_tasks,
    seed=numbers,
    alpha=st.floats(0.01, 1),
    every=st.integers(1, 3),
    reference=st.sampled_from(["max", "mean"]),
)
def test_is_its_loop(registry: Registry, tasks: int, seed: int, alpha: float, every: int, reference: str) -> None:
    hyper: dict[str, object] = {"alpha": alpha, "every": every, "reference": reference}
    expected = np.ones((REPLICAS, tasks))
    steps = play(build(registry, "lr-annealing", (REPLICAS, tasks), FEATURES, hyper=hyper), tasks, seed)
    for index, (_, jacobian, weights, _, _) in enumerate(steps):
        if index % every == 0:
            entries = np.abs(jacobian)
            numerator = getattr(entries[:, 0], reference)(-1)
            expected[:, 1:] += alpha * (numerator[:, None] / entries[:, 1:].mean(-1) - expected[:, 1:])
        assert_close(weights, expected)


@pytest.mark.parametrize("reference", ["max", "mean"])
def test_a_task_without_a_gradient_keeps_its_weight(registry: Registry, reference: str) -> None:
    strategy = build(registry, "lr-annealing", (1, 3), hyper={"every": 1, "reference": reference})
    losses, jacobian = official.LOSSES[:1], official.GRADIENTS[:1].clone()
    before, _ = weigh(strategy, given_step(losses, jacobian))
    jacobian[:, 1] = 0
    after, _ = weigh(strategy, given_step(losses, jacobian, index=1))
    assert float(after[0, 1]) == float(before[0, 1])
    assert float(after[0, 2]) != float(before[0, 2])
