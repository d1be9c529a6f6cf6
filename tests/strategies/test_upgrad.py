"""`upgrad`: the mean of all gradients, each projected onto the dual cone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchjd import aggregation

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import TORCHJD, Authors, Comparison, aggregated
from tests.helpers.gradient_problems import Array, assert_projects, few, numbers, project_by_enumeration
from tests.helpers.plain import PlainStep, Surgery, projected_pair
from tests.helpers.torchjd_problems import EXACT_PROJECTION


class UPGrad(Surgery):
    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        return projected_pair(jacobian).mean(0)


PLAIN = {"upgrad": UPGrad}
AUTHORS = Authors(
    Comparison(
        f"{TORCHJD} (the authors' code)",
        aggregated(lambda: aggregation.UPGrad(projector=EXACT_PROJECTION())),
        "directions",
    ),
    default="none to choose",
    deviations="no ridge (in TorchJD 1e-4)",
)


@few
@given(tasks=st.integers(2, 4), seed=numbers)
def test_projects_each_gradient_as_by_enumeration(registry: Registry, tasks: int, seed: int) -> None:
    def expected(gramian: Array) -> Array:
        return np.mean([project_by_enumeration(gramian, one) for one in np.eye(tasks)], axis=0)

    assert_projects(registry, "upgrad", tasks, seed, expected)
