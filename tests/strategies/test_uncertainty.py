"""`uncertainty`: losses weighted by trained precisions."""

from __future__ import annotations

import math
from functools import partial

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mtlbench.engine.trainer import Trainer
from mtlbench.plugins.registry import Registry
from tests.helpers.plain import Plain, PlainStep, zeros
from tests.helpers.refused import POSITIVE, Refused
from tests.helpers.toy import given_step, problem, weigh


class Uncertainty(Plain):
    def __init__(self) -> None:
        self.s = nn.Parameter(zeros())

    def learned(self) -> list[nn.Parameter]:
        return [self.s]

    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        return (step.losses / self.s.exp() + 0.5 * self.s).sum(), None


PLAIN = {"uncertainty": Uncertainty}
REFUSED: Refused = {"c": POSITIVE, "s": ()}


@given(seed=st.integers(0, 1000), s=st.floats(-3, 3), c=st.sampled_from([0.5, 1.0]))
def test_weights_by_precision(registry: Registry, seed: int, s: float, c: float) -> None:
    losses, _ = problem((2, 3), seed)
    strategy = registry.get("uncertainty")((2, 3), c=c, s=s).double()  # pyright: ignore[reportCallIssue]
    weights, (grad,) = weigh(strategy, given_step(losses))
    torch.testing.assert_close(weights, torch.full_like(weights, c * math.exp(-s)), rtol=1e-6, atol=0)
    torch.testing.assert_close(grad, 0.5 - weights * losses)


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
