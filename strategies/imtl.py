"""Impartial multi-task learning, both balances."""

import math
from typing import Annotated

import torch
from torch import Tensor, nn

from mtlbench import LogUniform, Step, Strategy, register, require
from mtlbench.solvers import impartial_weights


@register("imtl")
class IMTL(Strategy):
    """Losses scaled to come out alike (`imtl-l`), the scaled gradients mixed to equal projections (`imtl-g`).

    s minimises sum_t exp(s_t) L_t - s_t; with g_t exp(s_t) for gradients and a the weights of `imtl-g` for them,
    w_t = a_t exp(s_t).

    Source: Liu, Li, Kuang, Xue, Chen, Yang, Liao & Zhang, "Towards Impartial Multi-Task Learning", ICLR 2021;
    lr is that of `uncertainty`, for the reason given in `imtl-l`.

    Deviation: in the paper head t learns with weight exp(s_t), here with 1; to Adam, which divides by the
    gradient's size, a slowly changing factor is none.

    Args:
        shape: (K, T).
        lr: learning rate of the scales s, finite and > 0.
    """

    heads = "own"
    losses = "positive"

    def __init__(self, shape: tuple[int, int], *, lr: Annotated[float, LogUniform(2.5e-3, 0.25)] = 0.025) -> None:
        super().__init__(shape)
        require(math.isfinite(lr) and lr > 0, "lr must be finite and > 0", lr)
        self.lr = lr
        self.scales = nn.Parameter(torch.zeros(shape))  # [K, T], s

    def forward(self, step: Step) -> Tensor:
        factors = self.scales.exp()  # [K, T]
        fixed = factors.detach()
        gramian = step.gramian() * fixed.unsqueeze(-1) * fixed.unsqueeze(-2)
        shares = impartial_weights(gramian, step.losses.dtype)  # [K, T]
        balance = factors * step.losses.detach() - self.scales
        return (shares * fixed * step.losses + balance).sum(-1)
