"""Excess risks."""

import math
from typing import Annotated

import torch
from torch import Tensor

from mtlbench import LogUniform, Step, Strategy, register, require

SMALL = 1e-7


@register("excessmtl")
class ExcessMTL(Strategy):
    """More weight to the tasks that are still far from their own optimum, however noisy their labels.

    The excess risk of task t, its loss above the lowest it can reach, is estimated by e_t = sum g_t^2 / sqrt(H_t)
    over the trunk's parameters, H_t the sum of all squares g_t^2 so far, and taken relative to its value at the first
    step, or at the first at which it is above 1e-7. The weights follow its exponentiated gradient,
    w <- T softmax(log w + eta e), from w = 1.

    Source: He, Zhou, Zhang, Yang & Zhao, "Robust Multi-Task Learning with Excess Risks", ICML 2024, eq. 6-7 and 9;
    eta is the default of the authors' code.

    Deviations: the paper's weights sum to 1, here to T, a common factor. At the first step, whose e is 1 by
    definition, weights stay as they are, as in the authors' code; TorchJD moves them by the e that is not yet relative,
    unless it is given `n_warmup_steps=1`, and takes eta = 1.

    Args:
        shape: (K, T).
        eta: step size of the weights, finite and > 0.
    """

    def __init__(self, shape: tuple[int, int], *, eta: Annotated[float, LogUniform(1e-3, 1)] = 0.01) -> None:
        super().__init__(shape)
        require(math.isfinite(eta) and eta > 0, "eta must be finite and > 0", eta)
        self.eta = eta
        self.log_weights: Tensor
        self.first_risks: Tensor
        self.squares: Tensor
        self.register_buffer("log_weights", torch.zeros(shape))  # [K, T]
        self.register_buffer("first_risks", torch.zeros(shape))  # [K, T]

    def allocate(self, parameters: int) -> None:
        self.register_buffer("squares", torch.zeros(*self.shape, parameters))  # [K, T, P], H

    def forward(self, step: Step) -> Tensor:
        most = torch.finfo(step.losses.dtype).max / 4  # so that sums of squares do not overflow
        squares = step.jacobian().square_().clamp_max_(most)  # [K, T, P]
        self.squares.add_(squares).clamp_max_(most)
        risks = squares.div_((self.squares + SMALL).sqrt_()).sum(-1)  # [K, T]
        self.first_risks.copy_(torch.where(self.first_risks > SMALL, self.first_risks, risks))
        relative = risks / self.first_risks.clamp_min(SMALL)
        total = self.log_weights.logsumexp(-1, keepdim=True)  # log T, or less if tasks are absent
        moved = (self.log_weights + self.eta * relative).log_softmax(-1) + total
        self.log_weights.copy_(torch.where(step.counts > 0, moved, self.log_weights))
        return (self.shape[1] * self.log_weights.softmax(-1) * step.losses).sum(-1)
