"""MetaBalance."""

import math
from typing import Annotated

import torch
from torch import Tensor

from mtlbench import Step, Strategy, Uniform, register, require
from mtlbench.solvers import gradient_norms, reciprocal


@register("metabalance")
class MetaBalance(Strategy):
    """Gradients of auxiliary tasks brought towards the length of the main task's gradient.

    With m_t <- beta m_t + (1 - beta) |g_t|, from 0 and bias-corrected, w_t = r m_0 / m_t + 1 - r: the main task, the
    first, has weight 1, and with r = 1 all gradients have its usual length. A task whose gradient was always zero has
    weight 1 - r.

    Source: He, Feng, Cheng, Ji, Guo & Caverlee, "MetaBalance: Improving Multi-Task Recommendations via Adapting
    Gradient Magnitudes of Auxiliary Tasks", WWW 2022; defaults are those of the authors' code.

    Deviations: the paper balances each parameter tensor of the shared network separately. Here lengths are over all
    trunk parameters at once, so that a step needs norms only. The paper does not correct m_t, which changes nothing
    unless tasks are absent from steps.

    Args:
        shape: (K, T).
        relax: r, how near the lengths are brought to the main task's, >= 0 and <= 1; 0 is the plain sum.
        beta: weight of the past in the average lengths, >= 0 and < 1.
    """

    heads = "own"
    symmetric = False

    def __init__(
        self, shape: tuple[int, int], *, relax: Annotated[float, Uniform(0, 1)] = 0.7, beta: float = 0.9
    ) -> None:
        super().__init__(shape)
        require(math.isfinite(relax) and 0 <= relax <= 1, "relax must be >= 0 and <= 1", relax)
        require(0 <= beta < 1, "beta must be >= 0 and < 1", beta)
        self.relax, self.beta = relax, beta
        self.lengths: Tensor
        self.register_buffer("lengths", torch.zeros(shape))  # [K, T], m before its correction

    def forward(self, step: Step) -> Tensor:
        norms = gradient_norms(step.gramian())
        self.lengths.copy_(self.beta * self.lengths + (1 - self.beta) * norms)
        lengths = self.lengths / (1 - self.beta ** (1 + step.counts).to(norms.dtype))  # [K, T], m
        ratios = lengths[:, :1] * reciprocal(lengths)  # [K, T]
        weights = self.relax * ratios + 1 - self.relax
        return (weights * step.losses).sum(-1)
