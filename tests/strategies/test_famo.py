"""`famo`: weights trained by torch's Adam on the change of the log losses."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torchjd import scalarization

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import TORCHJD, Authors, Comparison, code, scalarized
from tests.helpers.gradient_problems import numbers, shapes
from tests.helpers.plain import Plain, PlainStep, zeros
from tests.helpers.refused import NOT_NEGATIVE, POSITIVE, Refused
from tests.helpers.toy import build, problem, weights_of

# The code of Cranial-XIX/FAMO at 0a6ad06, famo.py, with torch's default dtype float64: the gradient of
# get_weighted_loss(losses) of FAMO(3, "cpu", gamma=0.001) by the losses of each step, each followed by update(losses
# after it).
WEIGHTS = [
    [0.1515151530027548, 0.6060606029201101, 0.24242424407713495],
    [0.21727123056223466, 0.4568219243485738, 0.32590684508919154],
    [0.11580727664257792, 0.6026149039381373, 0.2815778194192847],
]


class FAMO(Plain):
    def __init__(self) -> None:
        self.xi = nn.Parameter(zeros())
        self.optimizer = torch.optim.Adam([self.xi], lr=0.025, weight_decay=1e-3)

    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        z, distances = self.xi.detach().softmax(0), step.losses + 1e-8
        c = 1 / (z / distances.detach()).sum()
        return c * (z * distances.log()).sum(), None

    def after_update(self, step: PlainStep) -> None:
        gains = (step.losses + 1e-8).log() - (step.again() + 1e-8).log()
        self.optimizer.zero_grad()
        with torch.enable_grad():
            self.xi.softmax(0).backward(gains.detach())
        self.optimizer.step()


PLAIN = {"famo": FAMO}
REFUSED: Refused = {"least": (), "lr": POSITIVE, "weight_decay": NOT_NEGATIVE}
AUTHORS = Authors(
    Comparison(code("Cranial-XIX/FAMO", "0a6ad06"), WEIGHTS),
    Comparison(TORCHJD, scalarized(lambda: scalarization.FAMO(3))),
    default="`run.sh` for NYUv2, QM9 and CelebA",
)


@given(
    shape=shapes,
    seed=numbers,
    lr=st.floats(0.001, 0.5),
    decay=st.sampled_from([0.0, 1e-3, 0.1]),
    least=st.sampled_from([0.0, -1.0]),
)
def test_is_torchs_adam_on_its_logits(
    registry: Registry, shape: tuple[int, int], seed: int, lr: float, decay: float, least: float
) -> None:
    strategy = build(registry, "famo", shape, hyper={"lr": lr, "weight_decay": decay, "least": least})
    logits = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    optimizer = torch.optim.Adam([logits], lr=lr, weight_decay=decay)
    for step in range(5):
        before, after = problem(shape, seed + step)[0], problem(shape, seed + 10 + step)[0]
        shares = logits.softmax(-1)
        parts = shares.detach() / (before - least + 1e-8)
        weights = weights_of(strategy, before, index=step)
        torch.testing.assert_close(weights, parts / parts.sum(-1, keepdim=True), rtol=1e-8, atol=0)
        torch.testing.assert_close(weights.sum(-1), torch.ones(shape[0], dtype=torch.float64))
        gains = (before - least + 1e-8).log() - (after - least + 1e-8).log()
        optimizer.zero_grad()
        shares.backward(gains)
        optimizer.step()
        strategy.after_update(after)
