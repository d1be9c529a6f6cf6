"""Soft optimal uncertainty weighting."""

import math
from typing import Annotated

import torch
from torch import Tensor

from mtlbench import LogUniform, Step, Strategy, register, require


@register("uncertainty-softmax")
class UncertaintySoftmax(Strategy):
    """Softmax of the inverse losses: uncertainty weighting with its noise put at the optimum (UW-SO).

    Minimises sum_t w_t L_t, w = softmax(1 / (tau L)), the weights cut off from the gradient. For fixed losses the
    optimum of uncertainty weighting has weights in proportion to 1 / L; the softmax normalises them, and tau says
    how sharply.

    Source: Kirchdorfer, Elich, Kutsche, Stuckenschmidt, Schott & Koehler, "Analytical Uncertainty-Based Loss
    Weighting in Multi-Task Learning", GCPR 2024 (arXiv:2408.07985).

    Deviation: the paper tunes tau for each data set and gives no default; 20 is ours, made for losses of 0.01 to 1. The
    first author's later code adds 1e-8 to losses.

    Args:
        shape: (K, T).
        tau: temperature, finite and > 0; large is equal weights, small is the smallest loss alone.
    """

    losses = "positive"

    def __init__(self, shape: tuple[int, int], *, tau: Annotated[float, LogUniform(1, 100)] = 20.0) -> None:
        super().__init__(shape)
        require(math.isfinite(tau) and tau > 0, "tau must be finite and > 0", tau)
        self.tau = tau

    def forward(self, step: Step) -> Tensor:
        losses = step.losses.detach()
        inverse = 1 / (self.tau * losses.clamp_min(torch.finfo(losses.dtype).eps))  # [K, T]
        return (inverse.softmax(-1) * step.losses).sum(-1)
