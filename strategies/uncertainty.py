"""Uncertainty weighting."""

import math
from typing import Annotated

import torch
from torch import Tensor, nn

from mtlbench import Step, Strategy, Uniform, register


@register("uncertainty")
class Uncertainty(Strategy):
    """Losses weighted by the precision of each task, whose noise is learned with the network.

    Minimises sum_t c exp(-s_t) L_t + s_t / 2 over the network and s_t = log sigma_t^2. For a softmax likelihood
    (classification, L the cross-entropy) the paper's derivation gives L / sigma^2 + log sigma, that is c = 1; for
    a Gaussian one (regression, L the squared error) L / (2 sigma^2) + log sigma, that is c = 1/2. For fixed losses
    the optimum is c exp(-s_t) L_t = 1/2: the effective weight is 1 / (2 L_t), so weights grow as losses vanish, and
    the objective is half the sum of log losses up to a constant.

    Source: Kendall, Gal & Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry
    and Semantics", CVPR 2018, eq. 7 (regression) and eq. 10 (classification).

    Deviations elsewhere: LibMTL and TorchJD take c = 1/2 for every task; LibMTL starts at s = -0.5.

    Args:
        shape: (K, T).
        c: factor of the likelihood, > 0: 1 for classification, 1/2 for squared errors.
        s: start of the log-variances, finite.
    """

    losses = "positive"

    def __init__(self, shape: tuple[int, int], *, c: float = 1.0, s: Annotated[float, Uniform(-2, 2)] = 0.0) -> None:
        super().__init__(shape)
        if not (math.isfinite(c) and c > 0):
            raise ValueError(f"c must be finite and > 0, not {c}")
        if not math.isfinite(s):
            raise ValueError(f"s must be finite, not {s}")
        self.c = c
        self.log_variances = nn.Parameter(torch.full(shape, float(s)))  # [K, T]

    def forward(self, step: Step) -> Tensor:
        s = self.log_variances
        return (self.c * torch.exp(-s) * step.losses + s / 2).sum(-1)
