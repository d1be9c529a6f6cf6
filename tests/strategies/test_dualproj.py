"""`dualproj`: the mean gradient, projected onto the dual cone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers.gradient_problems import Array, assert_projects, few, numbers, project_by_enumeration
from tests.helpers.plain import PlainStep, Surgery


class DualProj(Surgery):
    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        mean = jacobian.mean(0)
        for g in jacobian:  # of two tasks one at most objects to the mean
            mean = mean - (mean @ g).clamp_max(0) / (g @ g) * g
        return mean


PLAIN = {"dualproj": DualProj}


@few
@given(tasks=st.integers(2, 4), seed=numbers)
def test_projects_the_mean_as_by_enumeration(registry: Registry, tasks: int, seed: int) -> None:
    def expected(gramian: Array) -> Array:
        return project_by_enumeration(gramian, np.full(tasks, 1 / tasks))

    assert_projects(registry, "dualproj", tasks, seed, expected)
