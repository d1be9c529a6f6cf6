"""Uncertainty weighting."""

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from mtlbench import LogUniform, PerTask, Step, Strategy, Uniform, register, require


@register("uncertainty")
class Uncertainty(Strategy):
    """Losses weighted by the precision of each task, whose noise is learned with the network.

    Minimises sum_t c_t exp(-s_t) L_t + s_t / 2 over the network and s_t = log sigma_t^2. For a softmax likelihood
    (classification, L the cross-entropy) the paper's derivation gives L / sigma^2 + log sigma, that is c = 1; for
    a Gaussian one (regression, L the squared error) L / (2 sigma^2) + log sigma, that is c = 1/2. For fixed losses
    the optimum is c exp(-s_t) L_t = 1/2: the effective weight is 1 / (2 L_t), so weights grow as losses vanish, and
    the objective is half the sum of log losses up to a constant.

    Source: Kendall, Gal & Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry
    and Semantics", CVPR 2018, eq. 7 (regression) and eq. 10 (classification); s starts at 0 as in Gal's example.
    lr is that of GradNorm's paper for this method, and of the code of Nash-MTL, FAMO, IGB and GO4Align, whose papers
    have most of its published scores.

    Deviation: Kendall et al., Gal's example, MTAN and LibMTL train s at the rate of the network, for 10,000 steps and
    more. Adam moves s by no more than about the rate in a step: in a few thousand steps of 1e-3, s does not reach its
    optimum if losses differ by some orders of magnitude.

    Deviations elsewhere: LibMTL, MTAN, Nash-MTL and TorchJD take c = 1/2 for every task; MTAN and LibMTL start at
    s = -0.5.

    Args:
        shape: (K, T).
        c: factor of the likelihood, finite and > 0, a number or one per task: 1 for classification, 1/2 for squared
            errors.
        s: start of the log-variances, finite.
        lr: learning rate of the log-variances, finite and > 0.
    """

    losses = "positive"

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        c: Annotated[float | Sequence[float], PerTask()] = 1.0,
        s: Annotated[float, Uniform(-2, 2)] = 0.0,
        lr: Annotated[float, LogUniform(2.5e-3, 0.25)] = 0.025,
    ) -> None:
        super().__init__(shape)
        factors = torch.tensor(c, dtype=torch.float64)
        if factors.dim() and factors.shape != shape[1:]:
            raise ValueError(f"c must be a number or {shape[1]} numbers, one per task, not {len(factors)}")
        require(bool(factors.isfinite().all() and (factors > 0).all()), "c must be finite and > 0", factors.tolist())
        require(math.isfinite(s), "s must be finite", s)
        require(math.isfinite(lr) and lr > 0, "lr must be finite and > 0", lr)
        self.lr = lr
        self.factors: Tensor
        self.register_buffer("factors", factors.to(torch.get_default_dtype()).expand(shape).clone())  # [K, T], c
        self.log_variances = nn.Parameter(torch.full(shape, float(s)))  # [K, T]

    def forward(self, step: Step) -> Tensor:
        s = self.log_variances
        return (self.factors * torch.exp(-s) * step.losses + s / 2).sum(-1)
