"""`rlw`: random weights."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from mtlbench.contracts.strategy import Step
from mtlbench.plugins.registry import Registry
from tests.helpers.authors import Authors, Comparison, code
from tests.helpers.plain import PlainStep, Weighted
from tests.helpers.toy import GivenGradients, build, weigh

# The code of median-research-group/LibMTL, the authors' library, at 4336804, LibMTL/weighting/RLW.py, with torch's
# default dtype float64: the gradient of RLW.backward(losses) by the losses of each step, with sqrt(-2 log(1 - u))
# cos(2 pi u) for torch.randn(3), u = `DRAWS`.
WEIGHTS = [
    [0.5700537693525214, 0.1428625127810774, 0.28708371786640113],
    [0.5700537693525214, 0.1428625127810774, 0.28708371786640113],
    [0.5700537693525214, 0.1428625127810774, 0.28708371786640113],
]


class RLW(Weighted):
    def weigh(self, step: PlainStep) -> Tensor:
        radius = (-2 * torch.log1p(-step.drawn(0, 2))).sqrt()
        return torch.softmax(radius * torch.cos(2 * math.pi * step.drawn(1, 2)), 0)


class Dirichlet(Weighted):
    def weigh(self, step: PlainStep) -> Tensor:
        exponential = -torch.log1p(-step.drawn(0, 2))
        return exponential / exponential.sum()


PLAIN = {"rlw": RLW, "rlw:dirichlet": Dirichlet}
DRAWS = [0.2, 0.5, 0.7]
AUTHORS = Authors(
    Comparison(code("median-research-group/LibMTL", "4336804"), WEIGHTS, draws=DRAWS),
    default="the code's",
)


def drawn_weights(registry: Registry, distribution: str, tasks: int) -> Tensor:
    """The weights of 4,000 seeds, `[K, T]`."""
    losses = torch.ones(4000, tasks, dtype=torch.float64)
    strategy = build(registry, "rlw", (4000, tasks), hyper={"distribution": distribution})
    step = Step(
        losses.requires_grad_(),
        GivenGradients(torch.zeros(4000, tasks, 1, dtype=torch.float64)),
        index=torch.tensor(3),
        epoch=torch.tensor(0),
        seeds=torch.arange(4000),
    )
    return weigh(strategy, step)[0]


@pytest.mark.parametrize("tasks", [2, 5])
def test_draws_normal_logits_or_uniformly_on_the_simplex(registry: Registry, tasks: int) -> None:
    normal, dirichlet = drawn_weights(registry, "normal", tasks), drawn_weights(registry, "dirichlet", tasks)
    for weights in (normal, dirichlet):
        torch.testing.assert_close(weights.sum(-1), torch.ones(len(weights), dtype=torch.float64))
        torch.testing.assert_close(weights.mean(0), torch.full_like(weights[0], 1 / tasks), rtol=0.05, atol=0)
    logs = normal.log()
    for one, other in itertools.combinations(range(tasks), 2):
        gap = (logs[:, one] - logs[:, other]) / math.sqrt(2)
        assert stats.kstest(gap.numpy(), "norm").pvalue > 1e-3
    for task in range(tasks):
        assert stats.kstest(dirichlet[:, task].numpy(), stats.beta(1, tasks - 1).cdf).pvalue > 1e-3
    covariance = torch.from_numpy(stats.dirichlet.cov(np.ones(tasks)))
    torch.testing.assert_close(dirichlet.T.cov(), covariance, rtol=0.15, atol=0.002)
