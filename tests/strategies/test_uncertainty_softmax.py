"""`uncertainty-softmax`: a softmax of inverse losses."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers.gradient_problems import numbers, shapes
from tests.helpers.plain import PlainStep, Weighted
from tests.helpers.refused import POSITIVE, Refused
from tests.helpers.toy import build, problem, weights_of


class UncertaintySoftmax(Weighted):
    def weigh(self, step: PlainStep) -> Tensor:
        return torch.softmax(1 / (20 * step.losses), 0)


PLAIN = {"uncertainty-softmax": UncertaintySoftmax}
REFUSED: Refused = {"tau": POSITIVE}


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
