"""`modo`: weights from the products of two further batches."""

from __future__ import annotations

from functools import partial

from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchjd import aggregation

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import TORCHJD, Authors, Comparison, code, weighted
from tests.helpers.gradient_problems import numbers
from tests.helpers.plain import PlainStep, Surgery, halves, on_simplex
from tests.helpers.played_steps import (
    REPLICAS,
    assert_close,
    equal_shares,
    few_plays,
    few_tasks,
    nearest_on_simplex,
    play,
)
from tests.helpers.refused import NOT_NEGATIVE, POSITIVE, Refused
from tests.helpers.toy import build

# The code of heshandevaka/Trade-Off-MOL at dc8d595, Toy-MNIST-smooth/moo_lambd.py, with torch's default dtype
# float64: the lambd of grad_modo([gradients, further, gradients], MoDo=dict(lambd=lambd, gamma=gamma, rho=0.1,
# num_samples=3)) for each step, by gamma.
WEIGHTS = {
    1e-3: [
        [0.3311944444444444, 0.33403819444444444, 0.3347673611111111],
        [0.3295605864384404, 0.3353984116012009, 0.33504100196035885],
        [0.33026839810186454, 0.3357701557645751, 0.3339614461335605],
    ],
    0.1: [
        [0.11944444444444444, 0.4038194444444444, 0.47673611111111114],
        [0.0660206344039352, 0.4364597620081018, 0.497519603587963],
        [0.18562644138665846, 0.46788192525981387, 0.34649163335352773],
    ],
}


class MoDo(Surgery):
    def __init__(self, gamma: float) -> None:
        self.gamma, self.w = gamma, halves()

    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        one, other = (step.jacobian(step.further(draw)) for draw in range(2))
        self.w = on_simplex(self.w - self.gamma * (one @ (self.w @ other) + 0.1 * self.w))
        return self.w @ jacobian


PLAIN = {"modo": partial(MoDo, 1e-3), "modo:gamma=1": partial(MoDo, 1.0)}
REFUSED: Refused = {"gamma": POSITIVE, "rho": NOT_NEGATIVE}


AUTHORS = Authors(
    *(
        Comparison(code("heshandevaka/Trade-Off-MOL", "dc8d595"), weights, hyper={"gamma": gamma})
        for gamma, weights in WEIGHTS.items()
    ),
    Comparison(TORCHJD, weighted(partial(aggregation.MoDoWeighting, gamma=1e-3, rho=0.1))),
    default="`run_nyu.sh` and `run_office.sh`; `rho` is the code's",
    deviations="the variant with three batches; heads learn from the step's own",
)


@few_plays
@given(tasks=few_tasks, seed=numbers, gamma=st.floats(1e-4, 0.1), rho=st.floats(0, 1))
def test_is_its_loop(registry: Registry, tasks: int, seed: int, gamma: float, rho: float) -> None:
    shares = equal_shares(tasks)
    strategy = build(registry, "modo", (REPLICAS, tasks), hyper={"gamma": gamma, "rho": rho})
    for _, jacobian, weights, actual, (one, other) in play(strategy, tasks, seed):
        for r in range(REPLICAS):
            slope = one[r] @ (other[r].T @ shares[r]) + rho * shares[r]
            shares[r] = nearest_on_simplex(shares[r] - gamma * slope)
            assert_close(weights[r], shares[r])
            assert_close(actual[r], shares[r] @ jacobian[r])
