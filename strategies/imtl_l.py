"""Impartial multi-task learning, loss balance."""

import math
from typing import Annotated

import torch
from torch import Tensor, nn

from mtlbench import LogUniform, Step, Strategy, register, require


@register("imtl-l")
class IMTLL(Strategy):
    """Losses scaled so that all of them come out alike, the scales being learned with the network.

    Minimises sum_t exp(s_t) L_t - s_t over the network and s. For fixed losses the optimum is exp(s_t) L_t = 1 for
    every task: it is uncertainty weighting, s = -log sigma^2, with the penalty on s doubled.

    Source: Liu, Li, Kuang, Xue, Chen, Yang, Liao & Zhang, "Towards Impartial Multi-Task Learning", ICLR 2021,
    loss balance; lr is that of `uncertainty`.

    Deviation: the paper has no rate of its own for s, and LibMTL trains s at the network's. Adam moves s by no more
    than about the rate in a step: in a few thousand steps of 1e-3, s does not reach its optimum if losses differ by
    some orders of magnitude, and losses do not come out alike.

    Args:
        shape: (K, T).
        lr: learning rate of the scales, finite and > 0.
    """

    losses = "positive"

    def __init__(self, shape: tuple[int, int], *, lr: Annotated[float, LogUniform(2.5e-3, 0.25)] = 0.025) -> None:
        super().__init__(shape)
        require(math.isfinite(lr) and lr > 0, "lr must be finite and > 0", lr)
        self.lr = lr
        self.scales = nn.Parameter(torch.zeros(shape))  # [K, T], s

    def forward(self, step: Step) -> Tensor:
        return (self.scales.exp() * step.losses - self.scales).sum(-1)
