"""`rotograd-scale`: gradients of one length at the shared representation."""

from __future__ import annotations

from functools import partial

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import Authors, Comparison, code
from tests.helpers.gradient_problems import numbers
from tests.helpers.plain import PlainStep, Surgery
from tests.helpers.played_steps import REPLICAS, few_plays, few_tasks, play
from tests.helpers.refused import Refused
from tests.helpers.toy import build

# The code of adrianjav/rotograd at f92498f, rotograd/rotograd.py, with torch's default dtype float64: what
# RotoGrad._rep_grad() returns for original_grads = list(gradients) of each step, by burn_in_period, its base class
# RotateOnly (the rotations) left out.
DIRECTIONS = {
    20: [
        [1.9419757016106913, 2.713193494123289, -1.606326373116391, -0.7528833235987085],
        [2.2182295839831996, 1.0277382488810631, -0.3218798066539783, 0.21480430746936086],
        [-0.22799117666403768, 2.302584662597717, -0.35660536415056965, 3.796379490454611],
    ],
    1: [
        [1.9419757016106913, 2.713193494123289, -1.606326373116391, -0.7528833235987085],
        [2.3406739217059163, 1.084468503560373, -0.33964729115451897, 0.22666131783383542],
        [-0.21811455095159826, 2.2028362108530586, -0.3411571447927072, 3.6319195326692575],
    ],
}


class RotoGradScale(Surgery):
    def __init__(self, burn_in: int = 20) -> None:
        self.burn_in, self.first = burn_in, torch.zeros(())

    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        rows = [torch.autograd.grad(loss, step.representation, retain_graph=True)[0] for loss in step.losses]
        # The stack's gradients are those that pass the ReLU.
        lengths = torch.stack([(row * (step.representation > 0)).norm() for row in rows])
        if step.index in (0, self.burn_in):
            self.first = lengths
        shares = lengths / self.first / (lengths / self.first).sum()
        return (shares @ lengths) / lengths @ jacobian


PLAIN = {"rotograd-scale": RotoGradScale, "rotograd-scale:burn_in=3": partial(RotoGradScale, 3)}
REFUSED: Refused = {"burn_in": (-1,)}
AUTHORS = Authors(
    *(
        Comparison(code("adrianjav/rotograd", "f92498f"), directions, "directions", hyper={"burn_in": burn_in})
        for burn_in, directions in DIRECTIONS.items()
    ),
    default="the code's",
    deviations="entries where the ReLU of the representation is off count as 0",
)


@few_plays
@given(tasks=few_tasks, seed=numbers, burn_in=st.integers(0, 4))
def test_makes_all_gradients_as_long_as_a_mean_of_them(registry: Registry, tasks: int, seed: int, burn_in: int) -> None:
    strategy = build(registry, "rotograd-scale", (REPLICAS, tasks), hyper={"burn_in": burn_in})
    for index, (_, jacobian, weights, _, _) in enumerate(play(strategy, tasks, seed)):
        before = torch.from_numpy(jacobian).norm(dim=-1)
        after = torch.from_numpy(weights) * before
        torch.testing.assert_close(after, after[:, :1].expand_as(after))
        if index in (0, burn_in):  # all ratios are 1
            torch.testing.assert_close(after[:, 0], before.mean(-1))
        else:
            assert bool((before.amin(-1) <= after[:, 0] * (1 + 1e-12)).all())
            assert bool((after[:, 0] <= before.amax(-1) * (1 + 1e-12)).all())
