"""`sdmgrad`: weights from some steps of SGD on the products of two further batches."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchjd import aggregation

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import TORCHJD, Authors, Comparison, code, weighted
from tests.helpers.gradient_problems import numbers
from tests.helpers.plain import PlainStep, Surgery, clipped, halves, on_simplex
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

# The code of OptMN-Lab/sdmgrad at 8333f9e, methods/weight_methods.py, with numpy.all for numpy.alltrue, with torch's
# default dtype float64: SDMGrad.sdmgrad(w, [gradients.mT, gradients.mT, further.mT], lamda=0.3, niter=20)[0] for each
# step.
DIRECTIONS = [
    [-0.5769230769230769, 1.769230769230769, 0.34615384615384615, 0.06730769230769232],
    [-0.19230769230769226, 0.8653846153846153, 0.7307692307692306, 0.3653846153846153],
    [0.060899866506751034, 0.8250014583655879, -0.29871989320540043, 0.7064092841665296],
]


class SDMGrad(Surgery):
    def __init__(self) -> None:
        self.v = halves()

    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        one, other = (step.jacobian(step.further(draw)) for draw in range(2))
        products = one @ other.T
        products = products / (products.diag().clamp_min(0).sqrt().mean() ** 2 + 1e-8)
        v = nn.Parameter(self.v)
        optimizer = torch.optim.SGD([v], lr=10.0, momentum=0.5)
        for _ in range(20):
            v.grad = products @ (v.detach() + 0.3 / 2)
            optimizer.step()
            v.data = on_simplex(v.data)
        self.v = v.detach()
        return clipped((self.v + 0.3 / 2) / 1.3 @ jacobian)


PLAIN = {"sdmgrad": SDMGrad}
REFUSED: Refused = {
    "max_norm": NOT_NEGATIVE,
    "momentum": (-0.1, 1.0),
    "rate": POSITIVE,
    "steps": POSITIVE,
    "strength": NOT_NEGATIVE,
}


AUTHORS = Authors(
    Comparison(code("OptMN-Lab/sdmgrad", "8333f9e"), DIRECTIONS, "directions", within=1e-4, hyper={"max_norm": 0.0}),
    Comparison(TORCHJD, weighted(aggregation.SDMGradWeighting), hyper={"max_norm": 0.0}),
    default="`run.sh` for NYUv2 and Cityscapes; `rate`, `momentum` and `max_norm` are the code's",
    deviations="1e-4 is not added to the diagonal; clips d, the code T d; heads learn from the step's own batch",
)


@few_plays
@given(
    tasks=few_tasks,
    seed=numbers,
    strength=st.floats(0, 2),
    rate=st.floats(0.1, 10),
    momentum=st.floats(0, 0.9),
    steps=st.integers(1, 8),
)
def test_is_its_loop(
    registry: Registry, tasks: int, seed: int, strength: float, rate: float, momentum: float, steps: int
) -> None:
    hyper: dict[str, object] = {"strength": strength, "rate": rate, "momentum": momentum, "steps": steps}
    shares = torch.from_numpy(equal_shares(tasks))
    strategy = build(registry, "sdmgrad", (REPLICAS, tasks), hyper=hyper)
    for _, jacobian, weights, actual, (one, other) in play(strategy, tasks, seed):
        for r in range(REPLICAS):
            products = torch.from_numpy(one[r] @ other[r].T)
            length = products.diag().clamp_min(0).sqrt().mean()
            v = nn.Parameter(shares[r].clone())
            optimizer = torch.optim.SGD([v], lr=rate, momentum=momentum)
            for _ in range(steps):
                v.grad = products @ (v.detach() + strength / tasks) / (length**2 + 1e-8)
                optimizer.step()
                v.data.copy_(torch.from_numpy(nearest_on_simplex(v.detach().numpy())))
            shares[r] = v.detach()
            expected = ((shares[r] + strength / tasks) / (1 + strength)).numpy()
            expected /= max(1.0, float(np.linalg.norm(expected @ jacobian[r])))
            assert_close(weights[r], expected)
            assert_close(actual[r], expected @ jacobian[r])
