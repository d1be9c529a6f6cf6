"""`excessmtl`: weights from excess risks."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchjd import aggregation

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import TORCHJD, Authors, Comparison, aggregated, code
from tests.helpers.gradient_problems import numbers
from tests.helpers.plain import PlainStep, Weighted
from tests.helpers.played_steps import FEATURES, REPLICAS, assert_close, few_plays, few_tasks, play
from tests.helpers.refused import POSITIVE, Refused
from tests.helpers.toy import build

# The code of yifei-he/ExcessMTL at b179956, LibMTL/LibMTL/weighting/ExcessMTL.py, with torch's default dtype float64:
# what ExcessMTL.backward(losses + gradients @ theta, robust_step_size=0.01) returns in each step.
WEIGHTS = [
    [1.0, 1.0, 1.0],
    [0.9980347086888914, 0.998766398575704, 1.0031988927354045],
    [0.9922396177595559, 0.9940379647424455, 1.0137224174979984],
]


class ExcessMTL(Weighted):
    def __init__(self, eta: float) -> None:
        self.eta, self.w = eta, torch.ones(2, dtype=torch.float64)
        self.squares, self.first = torch.zeros(()), torch.zeros(())

    def weigh(self, step: PlainStep) -> Tensor:
        squares = step.jacobian() ** 2
        self.squares = self.squares + squares
        risks = (squares / (self.squares + 1e-7).sqrt()).sum(1)
        if step.index:
            self.w = self.w * torch.exp(self.eta * risks / self.first)
            self.w = 2 * self.w / self.w.sum()
        else:
            self.first = risks
        return self.w


PLAIN = {"excessmtl": partial(ExcessMTL, 0.01), "excessmtl:eta=1": partial(ExcessMTL, 1.0)}
REFUSED: Refused = {"eta": POSITIVE}
AUTHORS = Authors(
    Comparison(code("yifei-he/ExcessMTL", "b179956"), WEIGHTS),
    Comparison(
        TORCHJD,
        aggregated(lambda: aggregation.ExcessMTL(robust_step_size=0.01, n_warmup_steps=1)),
        "directions",
        within=1e-9,
        factor=1 / 3,
    ),
    default="the code's",
    deviations="TorchJD adds 1e-7 to the first risk",
)


@few_plays
@given(tasks=few_tasks, seed=numbers, eta=st.floats(1e-3, 2))
def test_is_its_loop(registry: Registry, tasks: int, seed: int, eta: float) -> None:
    squares = np.zeros((REPLICAS, tasks, FEATURES))
    logs, first = np.zeros((REPLICAS, tasks)), np.zeros((REPLICAS, tasks))
    strategy = build(registry, "excessmtl", (REPLICAS, tasks), FEATURES, hyper={"eta": eta})
    for index, (_, jacobian, weights, _, _) in enumerate(play(strategy, tasks, seed)):
        squares += jacobian**2
        risks = (jacobian**2 / np.sqrt(squares + 1e-7)).sum(-1)
        if index == 0:
            first = risks
        else:
            logs += eta * risks / first
        shares = np.exp(logs - logs.max(-1, keepdims=True))
        assert_close(weights, tasks * shares / shares.sum(-1, keepdims=True))
