"""`dwa`: weights from the ratio of the last two epochs' losses."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchjd import scalarization

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import TORCHJD, Authors, Comparison, code, scalarized
from tests.helpers.gradient_problems import numbers, shapes
from tests.helpers.plain import PlainStep, Weighted
from tests.helpers.refused import POSITIVE, Refused
from tests.helpers.toy import build, problem, weights_of

# The code of lorenmt/mtan at c36c30b, im2im_pred/utils.py, with torch's default dtype float64: lambda_weight of the
# lines under "apply Dynamic Weight Average" in multi_task_trainer, with T = 2 and each step's losses as the mean
# losses of an epoch.
WEIGHTS = [
    [1.0, 1.0, 1.0],
    [1.0, 1.0, 1.0],
    [0.8619930370234052, 1.2541924683297239, 0.8838144946468711],
]


class DWA(Weighted):
    def __init__(self) -> None:
        self.means: list[Tensor] = []

    def weigh(self, step: PlainStep) -> Tensor:
        if step.epoch < 2:
            return torch.ones(2, dtype=torch.float64)
        return 2 * torch.softmax(self.means[-1] / self.means[-2] / 2, 0)

    def epoch_end(self, mean_losses: Tensor) -> None:
        self.means.append(mean_losses)


PLAIN = {"dwa": DWA}
REFUSED: Refused = {"tau": POSITIVE}
AUTHORS = Authors(
    Comparison(code("lorenmt/mtan", "c36c30b"), WEIGHTS),
    Comparison(TORCHJD, scalarized(lambda: scalarization.DWA(2.0))),
    default="the paper's, and the code's default",
)


@given(shape=shapes, seed=numbers, tau=st.floats(0.2, 50))
def test_weighs_by_the_ratio_of_the_last_two_epochs(
    registry: Registry, shape: tuple[int, int], seed: int, tau: float
) -> None:
    strategy = build(registry, "dwa", shape, hyper={"tau": tau})
    means = [problem(shape, seed + epoch)[0].clamp(0.1, 10) for epoch in range(4)]
    for epoch, mean in enumerate(means):
        expected = torch.ones_like(mean)
        if epoch >= 2:
            powers = (means[epoch - 1] / means[epoch - 2] / tau).exp()
            expected = shape[1] * powers / powers.sum(-1, keepdim=True)
        torch.testing.assert_close(weights_of(strategy, mean, epoch=epoch), expected)
        strategy.epoch_end(mean)
