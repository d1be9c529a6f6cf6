"""Impartial multi-task learning, loss balance."""

import torch
from torch import Tensor, nn

from mtlbench import Step, Strategy, register


@register("imtl-l")
class IMTLL(Strategy):
    """Losses scaled so that all of them come out alike, the scales being learned with the network.

    Minimises sum_t exp(s_t) L_t - s_t over the network and s. For fixed losses the optimum is exp(s_t) L_t = 1 for
    every task: it is uncertainty weighting, s = -log sigma^2, with the penalty on s doubled.

    Source: Liu, Li, Kuang, Xue, Chen, Yang, Liao & Zhang, "Towards Impartial Multi-Task Learning", ICLR 2021,
    loss balance.

    Args:
        shape: (K, T).
    """

    losses = "positive"

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__(shape)
        self.scales = nn.Parameter(torch.zeros(shape))  # [K, T], s

    def forward(self, step: Step) -> Tensor:
        return (self.scales.exp() * step.losses - self.scales).sum(-1)
