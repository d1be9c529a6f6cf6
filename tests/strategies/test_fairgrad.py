"""`fairgrad`: the weights that solve its equation."""

from __future__ import annotations

import math
from functools import partial

from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch import Tensor
from torchjd import aggregation

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import TORCHJD, Authors, Comparison, aggregated, code
from tests.helpers.gradient_problems import few, numbers, solve, task_counts, times
from tests.helpers.plain import PlainStep, Surgery, clipped, pair
from tests.helpers.refused import NOT_NEGATIVE, POSITIVE, Refused
from tests.helpers.toy import uneven_problem

# The code of OptMN-Lab/fairgrad at 2b8cba1, methods/weight_methods.py, with torch's default dtype float64:
# FairGrad(3, "cpu").fairgrad(gradients.mT, alpha)[2] for each step, by alpha, and for alpha = 2 the gradient of theta
# after .backward(losses + gradients @ theta, shared_parameters=[theta]).
WEIGHTS = {
    2.0: [
        [0.14795967738690374, 0.49472364214919856, 1.0163043014550341],
        [0.26845668026286645, 1.1206489901986472, 1.173396960476412],
        [0.47509208878896875, 0.5747247187723851, 0.16678418939693584],
    ],
    1.0: [
        [0.25437190679252303, 0.5779645230595591, 0.9895934598348541],
        [0.40950682895021645, 1.1359712599523524, 1.0138760273176826],
        [0.5523200214548408, 0.6089652518943135, 0.30485054312066523],
    ],
}
CLIPPED = [
    [0.31586250746702144, 0.7856074587088117, -0.5311088891260569, -0.03121993949586161],
    [0.7051054290800162, 0.5895539417526628, 0.16278560699653735, 0.3588215727054131],
    [-0.15145557732328643, 0.5702923640522577, -0.0671765790506737, 0.8045586650131504],
]


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
OFFICIAL = code("OptMN-Lab/fairgrad", "2b8cba1")
AUTHORS = Authors(
    *(
        Comparison(OFFICIAL, weights, within=1e-9, hyper={"alpha": alpha, "max_norm": 0.0})
        for alpha, weights in WEIGHTS.items()
    ),
    Comparison(OFFICIAL, CLIPPED, "directions", within=1e-6),
    Comparison(
        TORCHJD, aggregated(lambda: aggregation.FairGrad(2.0)), "directions", within=1e-9, hyper={"max_norm": 0.0}
    ),
    default="`run.sh` for all supervised tables; `max_norm` is the code's",
    deviations="solved to rounding; clips d, the code T d, with 1e-6 added to its length",
)


@few
@given(tasks=task_counts, seed=numbers, alpha=st.floats(0.3, 4))
def test_solves_its_equation(registry: Registry, tasks: int, seed: int, alpha: float) -> None:
    losses, jacobian = uneven_problem(tasks, seed)
    weights, d = solve(registry, "fairgrad", losses, jacobian, hyper={"alpha": alpha, "max_norm": 0.0})
    assert bool((weights > 0).all())
    error = times(jacobian, d) - weights ** (-1 / alpha)
    # Products of conflicting gradients cancel: the error is relative to what is summed, the solver's ridge 2e-12 of it.
    assert bool((error.abs() < 1e-11 * times((jacobian @ jacobian.mT).abs(), weights)).all())
