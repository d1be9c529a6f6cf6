"""`uncertainty`: losses weighted by trained precisions."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchjd import scalarization

from mtlbench.check import Subject, failures
from mtlbench.contracts.strategy import effective_weights
from mtlbench.engine.trainer import Trainer
from mtlbench.plugins.registry import Registry
from mtlbench.setups import MNIST
from tests.helpers.authors import TORCHJD, Authors, Comparison, code, scalarized
from tests.helpers.plain import Plain, PlainStep, zeros
from tests.helpers.refused import POSITIVE, Refused
from tests.helpers.toy import build, given_step, problem, weigh, weights_of

# The code of yaringal/multi-task-learning-example at 86e2c88, multi-task-learning-example-pytorch.ipynb, with torch's
# default dtype float64: the gradient of criterion(losses.sqrt(), zeros, log_vars) by the losses of each step, each
# followed by a step of Adam(log_vars, lr=0.025).
WEIGHTS = [
    [1.0, 1.0, 1.0],
    [0.9753099122721601, 1.0253151200117714, 0.9753099130036426],
    [0.9531156586360862, 1.0491826268255273, 0.9609422342403738],
]


class Uncertainty(Plain):
    lr = 0.025

    def __init__(self, c: list[float]) -> None:
        self.c = torch.tensor(c, dtype=torch.float64)
        self.s = nn.Parameter(zeros())

    def learned(self) -> list[nn.Parameter]:
        return [self.s]

    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        return (self.c * step.losses / self.s.exp() + 0.5 * self.s).sum(), None


PLAIN = {
    "uncertainty": partial(Uncertainty, [1.0, 1.0]),
    "uncertainty:c=[1,0.5]": partial(Uncertainty, [1.0, 0.5]),
}
PER_TASK = ([1.0], [1.0, 1.0, 1.0], [1.0, 0.0], [1.0, math.nan])
REFUSED: Refused = {"c": (*POSITIVE, math.nan, math.inf, *PER_TASK), "s": (), "lr": POSITIVE}
AUTHORS = Authors(
    Comparison(
        code("yaringal/multi-task-learning-example", "86e2c88"), WEIGHTS, within=1e-8, hyper={"c": 0.5}, factor=2
    ),
    Comparison(TORCHJD, scalarized(lambda: scalarization.UW(3)), hyper={"c": 0.5}),
    default="c of classification (equation 10); `lr` is GradNorm's for this method, and that of Nash-MTL's code",
    deviations="s has a rate of its own; the example has twice the objective",
)


@given(seed=st.integers(0, 1000), s=st.floats(-3, 3), c=st.sampled_from([0.5, 1.0]))
def test_weights_by_precision(registry: Registry, seed: int, s: float, c: float) -> None:
    losses, _ = problem((2, 3), seed)
    strategy = registry.get("uncertainty")((2, 3), c=c, s=s).double()  # pyright: ignore[reportCallIssue]
    weights, (grad,) = weigh(strategy, given_step(losses))
    torch.testing.assert_close(weights, torch.full_like(weights, c * math.exp(-s)), rtol=1e-6, atol=0)
    torch.testing.assert_close(grad, 0.5 - weights * losses)


@given(seed=st.integers(0, 1000), c=st.lists(st.sampled_from([0.5, 1.0]), min_size=3, max_size=3))
def test_factors_may_differ_between_tasks(registry: Registry, seed: int, c: list[float]) -> None:
    losses, _ = problem((2, 3), seed)
    weights, _ = weigh(build(registry, "uncertainty", (2, 3), hyper={"c": c}), given_step(losses))
    torch.testing.assert_close(weights, torch.tensor([c, c], dtype=torch.float64))


def test_a_factor_per_task_keeps_the_contract(registry: Registry) -> None:
    assert failures(Subject(registry, registry.parse("uncertainty:c=[1,0.5]", MNIST))) == []


@pytest.mark.parametrize("name", ["uncertainty", "imtl-l"])
def test_weights_reach_their_optimum_in_a_short_training(registry: Registry, name: str) -> None:
    """The optimal ratio of the weights of losses 0.3 and 15 is 0.02; two epochs of mnist have 1,718 steps."""
    strategy = build(registry, name, (1, 2))
    losses = torch.tensor([[0.3, 15.0]], dtype=torch.float64)
    optimizer = torch.optim.Adam(strategy.parameters(), lr=strategy.lr or 1e-3)
    for _ in range(1718):
        effective_weights(strategy, given_step(losses))
        optimizer.step()
    weights = weights_of(strategy, losses)[0]
    assert float(weights[1] / weights[0]) == pytest.approx(0.02, rel=0.01)


def test_recovers_known_noise(registry: Registry) -> None:
    """Gal's toy problem: y1 = 2x + 8 + 10 e, y2 = 3x + 3 + e; enough data that fitting it shrinks no sigma."""
    setup = registry.setup("toy-regression")
    samples, _ = setup.samples()
    spec = registry.parse("uncertainty:c=0.5,s=2", setup)
    trainer = Trainer(
        setup, partial(registry.build, spec), (0, 1), samples, batch_size=100, lr=5e-2, device=torch.device("cpu")
    )
    trainer.start_epoch(0)
    for _ in range(trainer.steps_per_epoch):
        trainer.step()
    sigmas = torch.exp(trainer.strategy.state_dict()["log_variances"] / 2)
    torch.testing.assert_close(sigmas, torch.tensor([10.0, 1.0]).expand(2, 2), rtol=0.1, atol=0)
