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
from tests.helpers.plain import PlainStep, Weighted, pair
from tests.helpers.refused import POSITIVE, Refused
from tests.helpers.toy import uneven_problem


class FairGrad(Weighted):
    def __init__(self, alpha: float) -> None:
        self.power = 1 / alpha

    def weigh(self, step: PlainStep) -> Tensor:
        (a, b), (_, d) = (step.jacobian() @ step.jacobian().T).tolist()

        def gap(log_ratio: float) -> float:  # with w_2 = ratio w_1 one equation is the other's
            ratio = math.exp(log_ratio)
            return (b + d * ratio) * ratio**self.power - (a + b * ratio)

        # Both products are positive for ratios within these bounds.
        low, high = (math.log(-b / d), math.log(-a / b)) if b < 0 else (-40.0, 40.0)
        ratio = math.exp(float(brentq(gap, low, high, xtol=1e-15, rtol=1e-15)))
        first = (a + b * ratio) ** (-1 / (1 + self.power))
        return pair(first, ratio * first)


PLAIN = {"fairgrad": partial(FairGrad, 2.0), "fairgrad:alpha=0.7": partial(FairGrad, 0.7)}
REFUSED: Refused = {"alpha": POSITIVE}


@few
@given(tasks=task_counts, seed=numbers, alpha=st.floats(0.3, 4))
def test_solves_its_equation(registry: Registry, tasks: int, seed: int, alpha: float) -> None:
    losses, jacobian = uneven_problem(tasks, seed)
    weights, d = solve(registry, "fairgrad", losses, jacobian, hyper={"alpha": alpha})
    assert bool((weights > 0).all())
    error = times(jacobian, d) - weights ** (-1 / alpha)
    # Products of conflicting gradients cancel: the error is relative to what is summed, the solver's ridge 2e-12 of it.
    assert bool((error.abs() < 1e-11 * times((jacobian @ jacobian.mT).abs(), weights)).all())
