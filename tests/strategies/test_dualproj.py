"""`dualproj`: the mean gradient, projected onto the dual cone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchjd import aggregation

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import TORCHJD, Authors, Comparison, aggregated, code
from tests.helpers.gradient_problems import Array, assert_projects, few, numbers, project_by_enumeration
from tests.helpers.plain import PlainStep, Surgery
from tests.helpers.torchjd_problems import EXACT_PROJECTION

# The code of facebookresearch/GradientEpisodicMemory at 34c6b8e, model/gem.py, with torch's default dtype float64: d
# after project2cone2(d, gradients.mT, margin=0, eps=0), d = gradients.mean(0), for each step.
DIRECTIONS = [
    [0.8333333333333333, 1.0, -0.16666666666666666, -0.5416666666666665],
    [0.7916666666666667, 0.5, -0.08333333333333334, -0.04166666666666667],
    [0.0, 0.5833333333333334, -0.08333333333333333, 1.1666666666666667],
]


class DualProj(Surgery):
    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        mean = jacobian.mean(0)
        for g in jacobian:  # of two tasks one at most objects to the mean
            mean = mean - (mean @ g).clamp_max(0) / (g @ g) * g
        return mean


PLAIN = {"dualproj": DualProj}
AUTHORS = Authors(
    Comparison(code("facebookresearch/GradientEpisodicMemory", "34c6b8e"), DIRECTIONS, "directions"),
    Comparison(TORCHJD, aggregated(lambda: aggregation.DualProj(projector=EXACT_PROJECTION())), "directions"),
    default="none to choose",
    deviations="no margin (in the code 0.5) and no ridge (1e-3, in TorchJD 1e-4)",
)


@few
@given(tasks=st.integers(2, 4), seed=numbers)
def test_projects_the_mean_as_by_enumeration(registry: Registry, tasks: int, seed: int) -> None:
    def expected(gramian: Array) -> Array:
        return project_by_enumeration(gramian, np.full(tasks, 1 / tasks))

    assert_projects(registry, "dualproj", tasks, seed, expected)
