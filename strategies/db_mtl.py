"""Dual balancing."""

import math
from typing import Annotated

import torch
from torch import Tensor

from mtlbench import Step, Strategy, Uniform, register, require
from mtlbench.solvers import lengths_of, reciprocal

SMALL = 1e-8


@register("db-mtl")
class DBMTL(Strategy):
    """Logarithms of the losses, their averaged gradients brought to the length of the longest.

    With h_t = g_t / (L_t + 1e-8), the gradient of log(L_t + 1e-8), the average y_t <- h_t + beta k^-s (y_t - h_t) at
    step k, and m_t = |y_t|, the trunk descends sum_t max(m) / m_t y_t: a direction that is no weighting of this step's
    losses. Head t learns from log(L_t + 1e-8), whose weight 1 / (L_t + 1e-8) is the one recorded. With `beta` 0 there
    is no average.

    Source: Lin, Jiang, Ye, Zhang, Chen, Chen, Liu & Kwok, "Dual-Balancing for Multi-Task Learning", 2023
    (arXiv:2308.12029), algorithm 1; beta 0.9 with s 0.5 is one of six averages that the paper searches.

    Deviations elsewhere: in the authors' code in LibMTL, s is 0 by default, and 1e-8 is added to m_t.

    Args:
        shape: (K, T).
        beta: weight of the past in the average at the first step, >= 0 and < 1.
        decay: s, by which it falls, finite and >= 0.
    """

    family = "gradient-norm"
    losses = "positive"

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        beta: Annotated[float, Uniform(0, 0.99)] = 0.9,
        decay: Annotated[float, Uniform(0, 1)] = 0.5,
    ) -> None:
        super().__init__(shape)
        require(0 <= beta < 1, "beta must be >= 0 and < 1", beta)
        require(math.isfinite(decay) and decay >= 0, "decay must be finite and >= 0", decay)
        self.beta, self.decay = beta, decay
        self.averages: Tensor

    def allocate(self, parameters: int) -> None:
        self.register_buffer("averages", torch.zeros(*self.shape, parameters))  # [K, T, P], y

    def forward(self, step: Step) -> Tensor:
        logs = (step.losses + SMALL).log()  # [K, T]
        inverse = 1 / (step.losses.detach() + SMALL)
        past = self.beta * (1 + step.counts).to(inverse.dtype) ** -self.decay  # [K, T]
        self.averages.lerp_(step.jacobian().mul_(inverse.unsqueeze(-1)), (1 - past).unsqueeze(-1))
        lengths = lengths_of(self.averages)
        factors = (lengths.amax(-1, keepdim=True) * reciprocal(lengths)).to(logs.dtype)  # [K, T]
        step.descend((factors.unsqueeze(1) @ self.averages).squeeze(1))  # [K, P]
        return logs.sum(-1)
