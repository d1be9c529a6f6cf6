"""`ntkmtl`: weights from the sizes of the gradients, and a clipped sum."""

from __future__ import annotations

from functools import partial

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import Authors, Comparison, code
from tests.helpers.gradient_problems import few, numbers, solve, task_counts
from tests.helpers.plain import PlainStep, Surgery
from tests.helpers.refused import NOT_NEGATIVE, Refused
from tests.helpers.toy import uneven_problem

# The code of jianke0604/NTKMTL at abbf1f0, methods/weight_methods.py, with torch's default dtype float64:
# 3 * NTKMTL(3, device, ntk_exp=p).ntkgrad(gradients.mT)[1] for each step, and for p = 1/2 the gradient of theta after
# .backward(losses=gradients @ theta, shared_parameters=[theta], task_specific_parameters=[]).
WEIGHTS = {
    0.5: [
        [3.6371409984845435, 5.90438520981502, 12.096831541082704],
        [3.818376618407356, 6.037383539249432, 8.140806303599618],
        [5.835585150955648, 7.099295739719539, 4.019184762342502],
    ],
    0.75: [
        [4.004788440357718, 8.283261996690737, 24.291079859202334],
        [4.30781967652544, 8.56470723386857, 13.410362112169786],
        [8.138905171411341, 10.920996677377403, 4.652070947967278],
    ],
}
CLIPPED = [
    [0.513904728321009, 0.7179919729805551, -0.4250818986491823, -0.19923539699827653],
    [0.8961876842044585, 0.4152168774068794, -0.13004276951325355, 0.08678316088564396],
    [-0.05111660187161031, 0.5162493794535045, -0.07995245557869247, 0.8511646012208385],
]


class NTKMTL(Surgery):
    def __init__(self, power: float = 0.5, max_norm: float = 1.0) -> None:
        self.power, self.max_norm = power, max_norm

    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        squares = (jacobian**2).sum(1)
        d = 2 * (squares.sum() / squares) ** self.power @ jacobian
        return d * min(1.0, self.max_norm / float(d.norm())) if self.max_norm else d


PLAIN = {
    "ntkmtl": NTKMTL,
    "ntkmtl:max_norm=0": partial(NTKMTL, max_norm=0.0),
    "ntkmtl:power=0.75,max_norm=0.1": partial(NTKMTL, 0.75, 0.1),
}
REFUSED: Refused = {"power": NOT_NEGATIVE, "max_norm": NOT_NEGATIVE}
OFFICIAL = code("jianke0604/NTKMTL", "abbf1f0")
AUTHORS = Authors(
    *(Comparison(OFFICIAL, weights, hyper={"power": power, "max_norm": 0.0}) for power, weights in WEIGHTS.items()),
    Comparison(OFFICIAL, CLIPPED, "directions", within=1e-6),
    default="the code's (for NYUv2 `power` is 0.75)",
    deviations="when clipping, the code adds 1e-6 to the length",
)


@few
@given(tasks=task_counts, seed=numbers)
def test_a_square_root_makes_all_gradients_equally_long(registry: Registry, tasks: int, seed: int) -> None:
    losses, jacobian = uneven_problem(tasks, seed)
    weights, _ = solve(registry, "ntkmtl", losses, jacobian, hyper={"max_norm": 0.0})
    whole = jacobian.flatten(1).norm(dim=1, keepdim=True)
    torch.testing.assert_close(weights * jacobian.norm(dim=-1), (tasks * whole).expand_as(weights))


@few
@given(tasks=task_counts, seed=numbers, max_norm=st.sampled_from([1e-3, 1.0, 1e3]))
def test_clipping_shortens_only_what_is_longer(registry: Registry, tasks: int, seed: int, max_norm: float) -> None:
    losses, jacobian = uneven_problem(tasks, seed)
    _, d = solve(registry, "ntkmtl", losses, jacobian, hyper={"max_norm": 0.0})
    _, clipped = solve(registry, "ntkmtl", losses, jacobian, hyper={"max_norm": max_norm})
    length = d.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(clipped, torch.where(length > max_norm, d * max_norm / length, d))


def test_a_zero_gradient_changes_nothing_for_the_others(registry: Registry) -> None:
    losses, jacobian = uneven_problem(3, 0)
    jacobian[:, 1] = 0
    weights, _ = solve(registry, "ntkmtl", losses, jacobian, hyper={"max_norm": 0.0, "power": 0.0})
    assert torch.equal(weights, torch.tensor([3.0, 0.0, 3.0], dtype=torch.float64).expand_as(weights))
