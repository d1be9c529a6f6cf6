"""`uncertainty-softmax`: a softmax of inverse losses."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import Authors, Comparison, code
from tests.helpers.gradient_problems import numbers, shapes
from tests.helpers.plain import PlainStep, Weighted
from tests.helpers.refused import POSITIVE, Refused
from tests.helpers.toy import build, problem, weights_of

# The code of lukaskirchdorfer/MTL4PPM, by the method's first author, at fe61aab, src/weighting/UW_SO.py, with torch's
# default dtype float64: the gradient of UW_SO().backward(losses, T=tau, use_softmax=True) by the losses of each step,
# by tau, without the gradients that it also returns.
WEIGHTS = {
    20.0: [
        [0.3233109928796531, 0.3484917943783299, 0.3281972127420171],
        [0.32779346609551524, 0.3389040626118946, 0.3333024712925901],
        [0.30908581808449337, 0.36271556480589456, 0.328198617109612],
    ],
    1.0: [
        [0.14637971412080764, 0.6560283402933713, 0.19759194558582108],
        [0.2302372181358289, 0.4484408613016735, 0.3213219205624974],
        [0.0346588696113081, 0.8502696347356707, 0.11507149565302122],
    ],
}


class UncertaintySoftmax(Weighted):
    def weigh(self, step: PlainStep) -> Tensor:
        return torch.softmax(1 / (20 * step.losses), 0)


PLAIN = {"uncertainty-softmax": UncertaintySoftmax}
REFUSED: Refused = {"tau": POSITIVE}
AUTHORS = Authors(
    *(
        Comparison(code("lukaskirchdorfer/MTL4PPM", "fe61aab"), weights, within=1e-7, hyper={"tau": tau})
        for tau, weights in WEIGHTS.items()
    ),
    default="ours; the paper tunes it for each data set",
    deviations="the code adds 1e-8 to losses",
)


@given(shape=shapes, seed=numbers, tau=st.floats(0.2, 50))
def test_weighs_by_inverse_losses(registry: Registry, shape: tuple[int, int], seed: int, tau: float) -> None:
    losses, _ = problem(shape, seed)
    weights = weights_of(build(registry, "uncertainty-softmax", shape, hyper={"tau": tau}), losses)
    powers = (1 / (tau * losses)).exp()
    expected = powers / powers.sum(-1, keepdim=True)
    within = (1 / (tau * losses)).amax(-1) < 600  # beyond it exp overflows here
    torch.testing.assert_close(weights[within], expected[within])
    torch.testing.assert_close(weights.sum(-1), torch.ones(shape[0], dtype=torch.float64))
    assert bool((weights.argmax(-1) == losses.argmin(-1)).all())
