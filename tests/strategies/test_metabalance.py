"""`metabalance`: auxiliary gradients near the length of the main one."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import Authors, Comparison, code
from tests.helpers.gradient_problems import few, numbers, solve, task_counts
from tests.helpers.plain import PlainStep, Surgery
from tests.helpers.played_steps import REPLICAS, assert_close, few_plays, few_tasks, play
from tests.helpers.refused import SHARE, Refused
from tests.helpers.toy import build, uneven_problem

# The code of facebookresearch/MetaBalance at 1c342a9, metabalance.py, with torch's default dtype float64 and .cuda()
# taken away: the gradient of a single tensor theta after MetaBalance([theta]).step(gradients @ theta) of each step.
DIRECTIONS = [
    [2.8777199571175385, 3.8727024597575976, -1.9099667590532752, -1.312394395781216],
    [3.4678721239053565, 1.3786540904044813, -0.666259957911975, 0.2566981176769251],
    [0.4175363320551866, 2.3189268138185364, -0.5344634069092681, 4.555316366990814],
]


class MetaBalance(Surgery):
    def __init__(self, relax: float = 0.7, beta: float = 0.9) -> None:
        self.relax, self.beta, self.lengths = relax, beta, torch.zeros(2, dtype=torch.float64)

    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        self.lengths = self.beta * self.lengths + (1 - self.beta) * jacobian.norm(dim=1)
        main, other = jacobian
        scaled = self.lengths[0] / self.lengths[1] * other
        return main + self.relax * scaled + (1 - self.relax) * other


PLAIN = {"metabalance": MetaBalance, "metabalance:relax=1,beta=0": partial(MetaBalance, 1.0, 0.0)}
REFUSED: Refused = {"relax": SHARE, "beta": (-0.1, 1.0)}
AUTHORS = Authors(
    Comparison(code("facebookresearch/MetaBalance", "1c342a9"), DIRECTIONS, "directions"),
    default="the code's",
    deviations="one length over all shared parameters; the code balances each tensor",
)


@few_plays
@given(tasks=few_tasks, seed=numbers, relax=st.floats(0, 1), beta=st.floats(0, 0.99))
def test_is_its_loop(registry: Registry, tasks: int, seed: int, relax: float, beta: float) -> None:
    lengths = np.zeros((REPLICAS, tasks))
    hyper: dict[str, object] = {"relax": relax, "beta": beta}
    strategy = build(registry, "metabalance", (REPLICAS, tasks), hyper=hyper)
    for _, jacobian, weights, _, _ in play(strategy, tasks, seed):
        lengths += (1 - beta) * (np.linalg.norm(jacobian, axis=-1) - lengths)
        assert_close(weights, relax * lengths[:, :1] / lengths + 1 - relax)


@few
@given(tasks=task_counts, seed=numbers)
def test_with_relax_1_all_gradients_are_as_long_as_the_first(registry: Registry, tasks: int, seed: int) -> None:
    losses, jacobian = uneven_problem(tasks, seed)
    weights, _ = solve(registry, "metabalance", losses, jacobian, hyper={"relax": 1.0})
    lengths = weights * jacobian.norm(dim=-1)
    torch.testing.assert_close(lengths, lengths[:, :1].expand_as(lengths))
    torch.testing.assert_close(weights[:, 0], torch.ones(len(losses), dtype=torch.float64))
