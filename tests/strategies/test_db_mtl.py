"""`db-mtl`: averages of the gradients of log losses, brought to equal lengths."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import Authors, Comparison, code
from tests.helpers.gradient_problems import numbers
from tests.helpers.plain import Plain, PlainStep
from tests.helpers.played_steps import FEATURES, REPLICAS, assert_close, few_plays, few_tasks, play
from tests.helpers.refused import NOT_NEGATIVE, Refused
from tests.helpers.toy import build

# The code of median-research-group/LibMTL, the authors' library, at 4336804, LibMTL/weighting/DB_MTL.py, with torch's
# default dtype float64: the gradient of theta after DB_MTL.backward(losses + gradients @ theta, DB_beta=0.9,
# DB_beta_sigma=decay) of each step, by decay.
DIRECTIONS = {
    0.5: [
        [0.374482755274539, 0.523201319349512, -0.30975748188078445, -0.145182989424177],
        [1.312016177381377, 0.7613406807472762, -0.3069626731789369, 0.04612044148726788],
        [0.6566796083731727, 4.350725430654226, -0.5249306376655423, 5.401842187915802],
    ],
    0.0: [
        [0.374482755274539, 0.523201319349512, -0.30975748188078445, -0.145182989424177],
        [0.6888221716637717, 0.5575138996364329, -0.2939066793319857, -0.06835605862325517],
        [1.0796819622950076, 1.3914712421541615, -0.35905803433210315, 0.74055303009459],
    ],
}


class DBMTL(Plain):
    def __init__(self, beta: float) -> None:
        self.beta = beta
        self.average: Tensor | None = None

    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        logs = (step.losses + 1e-8).log()
        rows = step.jacobian(logs)
        before = torch.zeros_like(rows) if self.average is None else self.average
        self.average = rows + self.beta / math.sqrt(step.index + 1) * (before - rows)
        lengths = self.average.norm(dim=1)
        factors = lengths.max() / lengths
        return logs.sum(), factors @ self.average


PLAIN = {"db-mtl": partial(DBMTL, 0.9), "db-mtl:beta=0": partial(DBMTL, 0.0)}
REFUSED: Refused = {"beta": (-0.1, 1.0), "decay": NOT_NEGATIVE}
AUTHORS = Authors(
    *(
        Comparison(
            code("median-research-group/LibMTL", "4336804"),
            directions,
            "directions",
            within=1e-7,
            hyper={"decay": decay},
        )
        for decay, directions in DIRECTIONS.items()
    ),
    default="one of six averages that the paper searches",
    deviations="1e-8 is not added to the lengths",
)


@few_plays
@given(tasks=few_tasks, seed=numbers, beta=st.floats(0, 0.95), decay=st.floats(0, 1))
def test_is_its_loop(registry: Registry, tasks: int, seed: int, beta: float, decay: float) -> None:
    averages = np.zeros((REPLICAS, tasks, FEATURES))
    hyper: dict[str, object] = {"beta": beta, "decay": decay}
    strategy = build(registry, "db-mtl", (REPLICAS, tasks), FEATURES, hyper=hyper)
    for k, (losses, jacobian, weights, actual, _) in enumerate(play(strategy, tasks, seed), start=1):
        logs = jacobian / (losses + 1e-8)[..., None]
        averages = logs + beta / k**decay * (averages - logs)
        lengths = np.linalg.norm(averages, axis=-1)
        factors = lengths.max(-1, keepdims=True) / lengths
        assert_close(actual, (factors[..., None] * averages).sum(1))
        assert_close(weights, 1 / (losses + 1e-8))
