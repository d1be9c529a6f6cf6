"""`fairgrad`: the weights that solve its equation."""

from __future__ import annotations

import math
from functools import partial

from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers.gradient_problems import few, numbers, solve, task_counts, times
from tests.helpers.plain import PlainStep, Surgery, clipped, pair
from tests.helpers.refused import NOT_NEGATIVE, POSITIVE, Refused
from tests.helpers.toy import uneven_problem


class FairGrad(Surgery):
    def __init__(self, alpha: float, limit: float = 1.0) -> None:
        self.power, self.limit = 1 / alpha, limit

    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        (a, b), (_, d) = (jacobian @ jacobian.T).tolist()

        def gap(log_ratio: float) -> float:  # with w_2 = ratio w_1 one equation is the other's
            ratio = math.exp(log_ratio)
            return (b + d * ratio) * ratio**self.power - (a + b * ratio)

        # Both products are positive for ratios within these bounds.
        low, high = (math.log(-b / d), math.log(-a / b)) if b < 0 else (-40.0, 40.0)
        ratio = math.exp(float(brentq(gap, low, high, xtol=1e-15, rtol=1e-15)))
        first = (a + b * ratio) ** (-1 / (1 + self.power))
        return clipped(pair(first, ratio * first) @ jacobian, self.limit)


PLAIN = {"fairgrad": partial(FairGrad, 2.0), "fairgrad:alpha=0.7,max_norm=0.5": partial(FairGrad, 0.7, 0.5)}
REFUSED: Refused = {"alpha": POSITIVE, "max_norm": NOT_NEGATIVE}


@few
@given(tasks=task_counts, seed=numbers, alpha=st.floats(0.3, 4))
def test_solves_its_equation(registry: Registry, tasks: int, seed: int, alpha: float) -> None:
    losses, jacobian = uneven_problem(tasks, seed)
    weights, d = solve(registry, "fairgrad", losses, jacobian, hyper={"alpha": alpha, "max_norm": 0.0})
    assert bool((weights > 0).all())
    error = times(jacobian, d) - weights ** (-1 / alpha)
    # Products of conflicting gradients cancel: the error is relative to what is summed, the solver's ridge 2e-12 of it.
    assert bool((error.abs() < 1e-11 * times((jacobian @ jacobian.mT).abs(), weights)).all())
